"""Consolidate: an ordinary checkpoint that imitates an accepted adapter and opens in transformers without m2kt."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import JsonValue

from m2kt.errors import CompatibilityError, SpecError
from m2kt.packet import Packet, decoded_share
from m2kt.pipeline._adapters import RECEIPT, VERDICT, adapter_digest
from m2kt.pipeline._cards import plain_card
from m2kt.pipeline._config import IngestConfig
from m2kt.pipeline._ingest import truth_of
from m2kt.pipeline._inputs import evaluation_prompts, with_adapter
from m2kt.pipeline._plain import check_empty, check_plain, write_plain
from m2kt.pipeline._receipt import Draft, receipt_of, write_rejected
from m2kt.pipeline._report import Progress, no_progress
from m2kt.pipeline._results import Consolidation
from m2kt.pipeline._statements import local_signer, require_packet_of
from m2kt.probes import ProbeSpec, Prompt, Truth
from m2kt.remote import open_packet

if TYPE_CHECKING:
    from m2kt.auditor import Measurements, Verdict
    from m2kt.models import Dtype, LoadedModel
    from m2kt.student import ConsolidateSettings


def consolidate(
    student: str,
    adapter: str | Path,
    packet: str | Path | Packet,
    out: str | Path,
    *,
    settings: ConsolidateSettings | None = None,
    config: str | Path | IngestConfig | None = None,
    seed: int = 0,
    probes: str | Path | ProbeSpec | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    progress: Progress | None = None,
) -> Consolidation:
    """Trains low-rank updates of the student's matrices on the adapter's answers, judges and merges them.

    Args:
        student: the frozen base of the adapter.
        packet: the adapter's packet: its spec draws the prompts, its rollout is the reference of the verdict.
        out: directory of the checkpoint; it must not exist.
        settings: rank, updates and other settings of the training.
        config: thresholds of the verdict, as for ingest.
        probes: the spec with its truth, for a verdict by truth.

    Raises:
        SpecError: the adapter comes from another packet.
        CompatibilityError: the student is quantised, or of a class of m2kt.
        StorageError: ``out`` exists, or the disk refused.
    """
    from m2kt.auditor import judge
    from m2kt.student import ConsolidateSettings

    started, say = time.monotonic(), progress or no_progress
    settings, ingest_config = settings or ConsolidateSettings(), IngestConfig.of(config)
    signer = local_signer()
    packet, out = open_packet(packet), Path(out)
    check_empty(out)
    require_packet_of(adapter, packet)
    truth = None if probes is None else truth_of(probes, packet)
    loaded = _load(student, device, dtype)
    prompts = evaluation_prompts(packet.spec, truth, ingest_config.evaluation_prompts, seed=seed)
    tuned, ledger, measurements = _imitate(
        with_adapter(loaded, adapter), str(adapter), packet, settings, seed, prompts, truth, say
    )
    verdict = judge(measurements, ingest_config.thresholds)
    used: dict[str, JsonValue] = {"consolidated": settings.model_dump(mode="json")}
    used["adapter"] = adapter_digest(adapter)
    draft = receipt_of(packet, loaded, used, ledger, verdict, None, None, None, signer)
    digest = _write(tuned, out, draft, verdict) if verdict.verdict == "accepted" else None
    return Consolidation(
        verdict=verdict,
        reader_accuracy=measurements.reference_accuracy,
        packet=packet.digest,
        model=None if digest is None else out,
        model_digest=digest,
        receipt=write_rejected(out, draft.sign(None)) if digest is None else out / RECEIPT,
        ledger=ledger,
        seconds=round(time.monotonic() - started, 2),
    )


def _load(student: str, device: str, dtype: Dtype) -> LoadedModel:
    """The frozen base. Raises CompatibilityError where nothing can be merged into it."""
    from m2kt.models import load_causal_lm

    loaded = load_causal_lm(student, device=device, dtype=dtype)
    check_plain(loaded.model, student)
    if loaded.quantised:
        raise CompatibilityError(
            f"expected an unquantised student, got {student}: merging would round the updates after they were judged; "
            "name the same model unquantised"
        )
    return loaded


def _imitate(
    source: LoadedModel,
    adapter: str,
    packet: Packet,
    settings: ConsolidateSettings,
    seed: int,
    prompts: list[Prompt],
    truth: Truth | None,
    say: Progress,
) -> tuple[LoadedModel, dict[str, JsonValue], Measurements]:
    """Trains low-rank updates on the answers of the student with its adapter; the model, its ledger, measurements."""
    from m2kt.auditor import (
        BEFORE_PROMPTS,
        Measurements,
        ask,
        measure_neutral,
        measure_regression,
        packet_answers,
        score,
    )
    from m2kt.student import distil_reader, labelled_tokens, student_chat

    spec, report = packet.spec, partial(say, "asking the accepted student")
    rehearsal = spec.sample("rehearsal", settings.answers + settings.watched, seed=seed)
    answers = ask(source, spec, rehearsal, progress=report)
    ended = [(p, answer) for p, answer in zip(rehearsal, answers, strict=True) if answer.endswith(spec.end)]
    validation, training = ended[: settings.watched], ended[settings.watched :]
    if not training:
        raise SpecError(
            f"expected answers that end as the packet's, got none of {len(rehearsal)} by {adapter}; ingest again"
        )
    reference = truth or Truth(packet_answers(packet, prompts))
    with_reader = score(spec, prompts, ask(source, spec, prompts, progress=report), reference)
    base = replace(source, model=source.peft_model.unload())
    few = prompts[:BEFORE_PROMPTS]
    before = score(spec, few, ask(base, spec, few), reference)

    def agreement(model: LoadedModel) -> float:
        pairs = zip(ask(model, spec, [p for p, _ in validation]), validation, strict=True)
        return sum(a == b for a, (_, b) in pairs) / max(1, len(validation))

    pairs, chat = [(p.text, answer) for p, answer in training], student_chat(base.tokenizer, spec)
    rows, told = labelled_tokens(base, pairs, chat), partial(say, "consolidating")
    tuned, ledger = distil_reader(base, rows, agreement, settings, seed=seed, progress=told)
    say("auditing", 0, 1)
    after = score(spec, prompts, ask(tuned, spec, prompts), reference)
    measurements = Measurements(
        before=before.accuracy,
        accuracy=after.accuracy,
        interval=after.interval,
        n=after.n,
        reference_accuracy=with_reader.accuracy,
        reference="the student with its reader",
        shapes=after.shapes,
        neutral=measure_neutral(tuned),
        readable=decoded_share(packet.program, packet.concepts),
        regression=measure_regression(tuned),
    )
    used = {**ledger, "labelled_examples": packet.manifest.ledger.labelled_examples}
    return tuned, cast(dict[str, JsonValue], used), measurements


def _write(tuned: LoadedModel, out: Path, draft: Draft, verdict: Verdict) -> str:
    """Writes the merged checkpoint with its records; returns its digest."""
    from m2kt.models import digest_of_model

    receipt = draft.receipt
    record = {
        "packet": draft.packet.digest,
        "student": receipt.base_model.digest,
        "config": receipt.cal,
        "ledger": receipt.ledger,
        **verdict.model_dump(mode="json"),
    }

    def finish(aside: Path) -> None:
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        (aside / VERDICT).write_text(text, encoding="utf-8")
        (aside / RECEIPT).write_bytes(draft.sign(digest_of_model(aside)))

    merged: Any = tuned.peft_model.merge_and_unload()
    write_plain(merged, tuned.tokenizer, out, lambda aside: plain_card(draft, tuned), finish=finish)
    return digest_of_model(out)
