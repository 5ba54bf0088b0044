"""Consolidate: an adapter that was accepted becomes an ordinary checkpoint, which plain transformers opens."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2kt.errors import CompatibilityError, SpecError
from m2kt.packet import Packet, decoded_share, local_key, read_signer
from m2kt.pipeline._adapters import RECEIPT, VERDICT, adapter_digest
from m2kt.pipeline._cards import plain_card
from m2kt.pipeline._config import IngestConfig
from m2kt.pipeline._ingest import truth_of
from m2kt.pipeline._inputs import evaluation_prompts, with_adapter
from m2kt.pipeline._plain import check_empty, check_plain, write_plain
from m2kt.pipeline._receipt import Draft, receipt_of, write_rejected
from m2kt.pipeline._results import ConsolidateResult, Progress
from m2kt.pipeline._statements import about
from m2kt.probes import ProbeSpec, Truth
from m2kt.remote import open_packet

if TYPE_CHECKING:
    from m2kt.models import LoadedModel
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
    dtype: str = "auto",
    progress: Progress | None = None,
) -> ConsolidateResult:
    """Has an accepted student teach low-rank updates of its own matrices, judges them, and writes the merged model.

    Args:
        student: the frozen base of the adapter.
        packet: the packet that the adapter comes from: what can be asked, and what the verdict holds answers against.
        out: directory of the checkpoint; nothing may stand there.
        config: thresholds of the verdict, as for ingest.
        probes: the spec with its truth, for a verdict on truth.

    Raises:
        SpecError: the adapter comes from another packet.
        CompatibilityError: the student is quantised, or of m2kt's own class.
        StorageError: something stands at ``out``, or the disk refused.
    """
    from m2kt.audit import (
        BEFORE_PROMPTS,
        Measurements,
        ask,
        judge,
        measure_neutral,
        measure_regression,
        packet_answers,
        score,
    )
    from m2kt.models import load_causal_lm
    from m2kt.student import ConsolidateSettings, distil_reader

    started = time.monotonic()
    say: Progress = progress or (lambda stage, done, total: None)
    settings = settings or ConsolidateSettings()
    ingested = config if isinstance(config, IngestConfig) else IngestConfig.from_file(config)
    _, thresholds = ingested.resolve()
    packet, out = open_packet(packet), Path(out)
    check_empty(out)
    about(adapter, packet)
    signer = read_signer(local_key())
    truth = None if probes is None else truth_of(probes, packet)
    spec = packet.spec
    loaded = load_causal_lm(student, device=device, dtype=dtype)  # type: ignore[arg-type]
    check_plain(loaded.model, student)
    if loaded.quantised:
        raise CompatibilityError(
            f"{student} is quantised: low-rank updates would be rounded when they are merged, after they were judged; "
            "name the same model unquantised"
        )
    source = with_adapter(loaded, adapter)

    asked = spec.sample("rehearsal", settings.answers + settings.watched, seed=seed)

    def show(done: int, total: int) -> None:
        say("asking the accepted student", done, total)

    answers = ask(source, spec, asked, progress=show)
    known = [(p, answer) for p, answer in zip(asked, answers, strict=True) if answer.endswith(spec.stop)]
    watched, learnt = known[: settings.watched], known[settings.watched :]
    if not learnt:
        raise SpecError(
            f"the adapter {adapter} ends none of {len(asked)} answers with the stop string: there is nothing to learn"
        )
    prompts = evaluation_prompts(spec, truth, ingested.evaluation_prompts, seed=seed)
    reference = truth or Truth(packet_answers(packet, prompts))
    before_reader = score(spec, prompts, ask(source, spec, prompts, progress=show), reference)
    base = replace(loaded, model=source.peft_model.unload())
    few = prompts[:BEFORE_PROMPTS]
    before = score(spec, few, ask(base, spec, few), reference)

    def agreement(model: LoadedModel) -> float:
        answers = ask(model, spec, [p for p, _ in watched])
        return sum(a == b for a, (_, b) in zip(answers, watched, strict=True)) / max(1, len(watched))

    tuned, ledger = distil_reader(
        base,
        [(p.text, answer) for p, answer in learnt],
        agreement,
        settings,
        seed=seed,
        progress=lambda done, total: say("consolidating", done, total),
    )
    say("auditing", 0, 1)
    after = score(spec, prompts, ask(tuned, spec, prompts), reference)
    measurements = Measurements(
        before=before.accuracy,
        accuracy=after.accuracy,
        interval=after.interval,
        n=after.n,
        reference_accuracy=before_reader.accuracy,
        reference="the student with its reader",
        shapes=after.shapes,
        neutral=measure_neutral(tuned),
        readable=decoded_share(packet.graph, packet.concepts),
        regression=measure_regression(tuned),
    )
    verdict = judge(measurements, thresholds)
    used = {"consolidated": settings.model_dump(mode="json"), "adapter": adapter_digest(Path(adapter))}
    draft = receipt_of(packet, loaded, used, ledger, verdict, None, None, signer)
    digest = None
    if verdict.verdict == "accepted":
        record = {"packet": packet.digest, "student": loaded.digest, "config": used, "ledger": ledger}
        digest = _write(tuned, out, record | verdict.model_dump(mode="json"), draft)
        receipt_path = out / RECEIPT
    else:
        receipt_path = write_rejected(out, draft.sign(None))
    return ConsolidateResult(
        verdict=verdict.verdict,
        reasons=verdict.reasons,
        before=before.accuracy,
        reader=before_reader.accuracy,
        accuracy=after.accuracy,
        interval=after.interval,
        n=after.n,
        retention=verdict.retention,
        shapes=[s.model_dump() for s in after.shapes],
        neutral=verdict.neutral.model_dump(),
        packet=packet.digest,
        model=None if digest is None else str(out),
        model_digest=digest,
        receipt=str(receipt_path),
        ledger=ledger,
        seconds=round(time.monotonic() - started, 2),
    )


def _write(tuned: LoadedModel, out: Path, record: dict[str, Any], draft: Draft) -> str:
    """The merged checkpoint with its records; its digest."""
    from m2kt.models import digest_of_model

    def finish(aside: Path) -> None:
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        (aside / VERDICT).write_text(text, encoding="utf-8")
        (aside / RECEIPT).write_bytes(draft.sign(digest_of_model(aside)))

    merged: Any = tuned.peft_model.merge_and_unload()
    write_plain(merged, tuned.tokenizer, out, lambda aside: plain_card(draft, tuned), finish=finish)
    return digest_of_model(out)
