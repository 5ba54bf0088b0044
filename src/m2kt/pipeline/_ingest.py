"""Ingest: packet to candidate, audit, commit or roll back."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2kt.errors import PacketError, SpecError
from m2kt.packet import (
    Packet,
    TrustPolicy,
    lengthen,
    local_key,
    read_signer,
)
from m2kt.pipeline._adapters import RECEIPT, adapter_digest, commit_adapter, read_adapter
from m2kt.pipeline._cards import adapter_card
from m2kt.pipeline._config import IngestConfig
from m2kt.pipeline._inputs import evaluation_prompts, read_spec, with_adapter
from m2kt.pipeline._receipt import check_origin, receipt_of, write_rejected
from m2kt.pipeline._results import IngestResult, Progress
from m2kt.probes import ProbeSpec, Truth, load_truth
from m2kt.remote import open_packet

if TYPE_CHECKING:
    from m2kt.audit import ContentReport, Measurements, Thresholds
    from m2kt.models import LoadedModel


def ingest(
    student: str,
    packet: str | Path | Packet,
    out: str | Path,
    *,
    config: str | Path | IngestConfig | None = None,
    updates: int | None = None,
    seed: int = 0,
    reuse: str | Path | None = None,
    probes: str | Path | ProbeSpec | None = None,
    trust: str | Path | TrustPolicy | None = None,
    device: str = "auto",
    dtype: str = "auto",
    progress: Progress | None = None,
) -> IngestResult:
    """Trains a CAL aside, has it judged, and puts it at ``out`` only if it is accepted.

    Args:
        student: a directory, a Hub id, or a ``zoo:`` name; its weights stay frozen.
        packet: a packet, its path, or a reference (:mod:`m2kt.remote`).
        out: where the adapter goes. What stands there stays untouched by a rejection.
        reuse: a trained adapter (same graph, same teacher's space): its vectors are exchanged, nothing is trained.
        probes: the spec with its truth, for a verdict on truth rather than on the packet's own roll-out.
        trust: the policy that must accept the packet before any training; without one, origin is not checked.

    Raises:
        TrustError: the policy does not accept the packet, or it was revoked.
        PacketError, CompatibilityError, ModelError, StorageError: see :mod:`m2kt.errors`.
    """
    import m2kt.student as room
    from m2kt.audit import judge
    from m2kt.models import load_causal_lm

    started = time.monotonic()
    say: Progress = progress or (lambda stage, done, total: None)
    settings = config if isinstance(config, IngestConfig) else IngestConfig.from_file(config)
    student_settings, thresholds = settings.resolve()
    updates = settings.updates if updates is None else updates
    packet = open_packet(packet, lambda done, size: say("bringing the packet", done, size))
    origin = check_origin(packet, trust)
    signer = read_signer(local_key())  # a receipt that cannot be signed should not cost a training first
    refuse_contradictions(packet)
    auditor = settings.content_auditor()
    content = None if auditor is None else auditor.audit_packet(packet)
    penalties = {} if content is None else content.penalties
    standing = read_adapter(Path(out))
    truth = None if probes is None else truth_of(probes, packet)
    rehearsed = lengthen(packet, student_settings.rehearsal.longer)
    loaded = load_causal_lm(student, device=device, dtype=dtype)  # type: ignore[arg-type]
    if reuse is not None:
        model = room.replace_bank(with_adapter(loaded, reuse).peft_model, rehearsed)
        ledger: dict[str, Any] = {"labelled_examples": 0, "updates": 0, "rehearsal_sequences": 0}
        updates, history = 0, []
    else:
        candidate = room.train(
            loaded,
            packet,
            student_settings,
            updates=updates,
            seed=seed,
            penalties=penalties,
            progress=lambda done, total, losses: say("rehearsing", done, total),
        )
        model, ledger, history = candidate.model, candidate.ledger, candidate.history
        updates = int(ledger["updates"])
    training_seconds = time.monotonic() - started
    measurements = _measure(
        replace(loaded, model=model), rehearsed, thresholds, settings, seed, truth, history, content, say
    )
    verdict = judge(measurements, thresholds)
    ledger |= {
        "teacher_passes": packet.manifest.ledger.teacher_passes,
        "teacher_tokens_in_packet": packet.manifest.ledger.teacher_tokens_in_traces,
        "concepts": packet.n_concepts,
        "packet_bytes": packet.size_bytes,
    }
    config_used = {"student": student_settings.model_dump(mode="json"), "updates": updates, "seed": seed}
    record = {
        "packet": packet.digest,
        "student": loaded.digest,
        "config": config_used,
        "ledger": ledger,
        **verdict.model_dump(mode="json"),
    }
    draft = receipt_of(packet, loaded, config_used, ledger, verdict, origin, standing, signer)
    if verdict.verdict == "accepted":
        commit_adapter(model, Path(out), record, standing, draft.sign, adapter_card(draft, loaded))
        receipt_path = Path(out) / RECEIPT
    else:
        receipt_path = write_rejected(Path(out), draft.sign(None))
    return IngestResult(
        verdict=verdict.verdict,
        reasons=verdict.reasons,
        accuracy=verdict.accuracy,
        interval=verdict.interval,
        before=verdict.before,
        teacher=measurements.packet_accuracy or 0.0,
        retention=verdict.retention,
        gap_recovered=verdict.gap_recovered,
        n=verdict.n,
        reference=verdict.reference,
        shapes=[s.model_dump() for s in verdict.shapes],
        held_out=[s.model_dump() for s in verdict.held_out],
        neutral=verdict.neutral.model_dump(),
        confidence=None if verdict.confidence is None else verdict.confidence.model_dump(),
        steps=None if verdict.steps is None else verdict.steps.model_dump(),
        geometry=None if verdict.geometry is None else verdict.geometry.model_dump(),
        certificate=None if verdict.certificate is None else verdict.certificate.model_dump(),
        regression=None if verdict.regression is None else verdict.regression.model_dump(),
        triggers=None if verdict.triggers is None else verdict.triggers.model_dump(),
        content=None if verdict.content is None else verdict.content.model_dump(),
        safety=None if verdict.safety is None else verdict.safety.model_dump(),
        diagnosis=[d.model_dump() for d in verdict.diagnosis],
        updates=updates,
        seconds=round(time.monotonic() - started, 2),
        training_seconds=round(training_seconds, 2),
        packet=packet.digest,
        adapter=str(out),
        adapter_digest_before=standing,
        adapter_digest=adapter_digest(Path(out)),
        receipt=str(receipt_path),
        ledger=ledger,
    )


def refuse_contradictions(packet: Packet) -> None:
    """A row whose text and vector say two things was changed after the teacher spoke, or never read rightly."""
    from m2kt.audit import check_consistency

    found = check_consistency(packet).contradictions
    if found:
        raise PacketError(
            f"the packet contradicts itself in {len(found)} of {packet.n_concepts} rows, such as {found[0]}; expected "
            "text and vector of a row to agree; get it from its teacher again"
        )


def truth_of(probes: str | Path | ProbeSpec, packet: Packet) -> Truth | None:
    """The truth that belongs to the packet's prompts, if the spec has any."""
    spec, base = read_spec(probes)
    if spec.public().digest != packet.spec.digest:
        raise SpecError(
            "the probe spec given for the verdict is not the one that the packet was extracted with"
        )
    return load_truth(spec, base)


def _measure(
    loaded: LoadedModel,
    packet: Packet,
    thresholds: Thresholds,
    settings: IngestConfig,
    seed: int,
    truth: Truth | None,
    history: list[dict[str, float]],
    content: ContentReport | None,
    say: Progress,
) -> Measurements:
    from m2kt.audit import MeasureConfig, measure

    spec, n = packet.spec, settings.evaluation_prompts
    held_out = []
    if truth is not None:
        held_out = spec.sample("evaluation", n // 2, seed=seed, held_out=True, among=truth.problems)
    return measure(
        loaded,
        packet,
        evaluation_prompts(spec, truth, n, seed=seed),
        held_out=held_out,
        truth=truth,
        content=content,
        history=history,
        config=MeasureConfig(
            low_confidence=thresholds.doubt,
            certificate_traces=settings.certificate_traces,
            trigger_strings=settings.trigger_strings,
            seed=seed,
        ),
        progress=say,
    )
