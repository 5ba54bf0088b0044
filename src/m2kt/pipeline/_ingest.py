"""Ingest: packet to candidate, audit, commit or roll back."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2kt.errors import PacketError, SpecError
from m2kt.packet import (
    GraphExecutor,
    Packet,
    TrustPolicy,
    decode_outputs,
    fixed_lookup,
    lengthen,
    local_key,
    read_signer,
    readability,
)
from m2kt.pipeline._adapters import RECEIPT, adapter_digest, commit_adapter, read_adapter
from m2kt.pipeline._cards import adapter_card
from m2kt.pipeline._config import IngestConfig
from m2kt.pipeline._inputs import evaluation_prompts, read_spec, with_adapter
from m2kt.pipeline._receipt import check_origin, receipt_of, write_rejected
from m2kt.pipeline._results import IngestResult, Progress
from m2kt.probes import ProbeSpec, Prompt, Truth, load_truth
from m2kt.remote import open_packet

if TYPE_CHECKING:
    from m2kt.audit import ContentReport, Thresholds, Verdict
    from m2kt.models import LoadedModel

STEPS_PROMPTS = 64  # whose single steps are looked at: one pass of the student
BEFORE_PROMPTS = 32  # the frozen student hardly ever stops by itself; a few prompts show what it can do


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
    verdict, teacher_accuracy = _audit(
        replace(loaded, model=model),
        rehearsed,
        thresholds,
        settings,
        seed,
        truth,
        history,
        content,
        say,
    )
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
        teacher=teacher_accuracy,
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


def _audit(
    loaded: LoadedModel,
    packet: Packet,
    thresholds: Thresholds,
    settings: IngestConfig,
    seed: int,
    truth: Truth | None,
    history: list[dict[str, float]],
    content: ContentReport | None,
    say: Progress,
) -> tuple[Verdict, float]:
    """Measures the candidate; also returns the packet's own accuracy against the same reference."""
    from m2kt.audit import (
        certify,
        judge,
        measure_confidence,
        measure_geometry,
        measure_neutral,
        measure_regression,
        measure_safety,
        measure_steps,
        packet_traces,
        score,
        search_triggers,
        trace_answers,
    )

    spec, n = packet.spec, settings.evaluation_prompts
    prompts = evaluation_prompts(spec, truth, n, seed=seed)
    rolled = packet_traces(packet, prompts)
    own = trace_answers(packet, prompts, rolled)
    expected = truth or Truth(own)
    reference = (
        "truth of the probe spec" if truth else "the packet's own roll-out, vectors decoded by symbol states"
    )
    judged = [expected.judge(p.text, own[p.text]) for p in prompts]
    teacher_right = [right for right in judged if right is not None]
    teacher_accuracy = sum(teacher_right) / len(teacher_right) if teacher_right else 0.0

    after = score(spec, prompts, complete_all(loaded, packet, prompts, say, "auditing: after"), expected)
    few = prompts if spec.facts else prompts[:BEFORE_PROMPTS]  # facts it may know by itself, and each counts
    with loaded.peft_model.disable_adapter():
        before = score(spec, few, complete_all(loaded, packet, few, say, "auditing: before"), expected)
    # Truth is always right; a packet whose own roll-out is wrong must not make the gap look small. Of facts the packet
    # holds all that the teacher knows: right or wrong, there is no more to be had.
    reference_is_packet = truth is None or spec.facts
    confidence = measure_confidence(
        packet,
        prompts,
        rolled,
        own=own,
        after=after.answers,
        before=before.answers,
        truth=expected,
        reference=None if reference_is_packet else 1.0,
        limit=thresholds.doubt,
    )
    beyond = []
    if truth is not None and (
        longer := spec.sample("evaluation", n // 2, seed=seed, held_out=True, among=truth.problems)
    ):
        beyond = score(
            spec, longer, complete_all(loaded, packet, longer, say, "auditing: held-out shapes"), truth
        ).shapes
    say("auditing: single steps", 0, 1)
    traces = rolled[:STEPS_PROMPTS]
    steps, geometry = measure_steps(loaded, packet, traces), measure_geometry(loaded, packet, traces)
    say("auditing: certificate", 0, 1)
    certificate = None
    if settings.certificate_traces:
        certificate = certify(loaded, packet, prompts, traces=settings.certificate_traces, seed=seed)
    safety = measure_safety(loaded, packet, {} if content is None else content.penalties, seed=seed)
    triggers = None
    if settings.trigger_strings:
        say("auditing: triggers", 0, 1)
        triggers = search_triggers(loaded, strings=settings.trigger_strings, seed=seed)
    say("auditing: neutral text", 0, 1)
    verdict = judge(
        before=before.accuracy,
        accuracy=after.accuracy,
        interval=after.interval,
        n=after.n,
        reference_accuracy=teacher_accuracy if reference_is_packet else 1.0,
        reference=reference,
        shapes=after.shapes,
        held_out=beyond,
        neutral=measure_neutral(loaded),
        readable=readability(packet.graph, packet.concepts),
        thresholds=thresholds,
        confidence=confidence,
        steps=steps,
        geometry=geometry,
        certificate=certificate,
        regression=measure_regression(loaded),
        triggers=triggers,
        content=content,
        safety=safety,
        packet_accuracy=teacher_accuracy,
        history=history,
    )
    return verdict, teacher_accuracy


def complete_all(
    loaded: LoadedModel, packet: Packet, prompts: list[Prompt], say: Progress, stage: str
) -> list[str]:
    from m2kt.student import complete

    return complete(
        loaded,
        prompts,
        stop=packet.spec.stop,
        max_new_tokens=longest_answer(loaded, packet, prompts),
        symbols=packet.graph.symbols,
        progress=lambda done, total: say(stage, done, total),
    )


def longest_answer(loaded: LoadedModel, packet: Packet, prompts: list[Prompt]) -> int:
    """Room for an answer, in the student's tokens: half as much again as the longest roll-out of a probed shape."""
    from m2kt.models import encode_units

    roller = GraphExecutor(packet.graph)
    table = fixed_lookup(decode_outputs(packet.graph, packet.concepts), packet.graph)
    longest = 16
    probed = packet.spec.sample("evaluation", 40, seed=0)
    for prompt in probed:
        trace = roller(prompt, table)
        if trace.complete:
            texts = [u.text for u in trace.units[trace.n_prompt :]]
            longest = max(longest, len(encode_units(loaded.tokenizer, texts, prompt_boundary=None).ids))
    return int(1.5 * longest * (2 if any(p.held_out for p in prompts) else 1)) + 4
