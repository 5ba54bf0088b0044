"""Ingest: train an adapter on a packet, audit it, commit it or roll back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import JsonValue

from m2kt.errors import PacketError, SpecError
from m2kt.packet import Packet, TrustPolicy, TrustVerdict
from m2kt.pipeline._adapters import RECEIPT, adapter_digest, check_out, commit_adapter
from m2kt.pipeline._cards import adapter_card
from m2kt.pipeline._config import IngestConfig
from m2kt.pipeline._inputs import evaluation_prompts, read_spec, with_adapter
from m2kt.pipeline._receipt import check_origin, receipt_of, write_rejected
from m2kt.pipeline._report import Progress, no_progress
from m2kt.pipeline._results import Ingestion
from m2kt.pipeline._statements import local_signer
from m2kt.probes import ProbeSpec, Truth, load_truth
from m2kt.remote import open_packet
from m2kt.settings import Depth

if TYPE_CHECKING:
    from peft import PeftModel
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

    from m2kt.auditor import ContentReport, Measurements, ProgramReport, Verdict
    from m2kt.models import Dtype, LoadedModel


def ingest(
    student: str,
    packet: str | Path | Packet,
    out: str | Path,
    *,
    config: str | Path | IngestConfig | None = None,
    depth: Depth | None = None,
    updates: int | None = None,
    seed: int = 0,
    reuse: str | Path | None = None,
    probes: str | Path | ProbeSpec | None = None,
    trust: str | Path | TrustPolicy | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    progress: Progress | None = None,
) -> Ingestion:
    """Trains a CAL, judges it, and writes it to ``out`` only if it is accepted.

    Args:
        student: a directory, a Hub id, or a ``zoo:`` name; its weights stay frozen.
        packet: a packet, its path, or a reference (:mod:`m2kt.remote`).
        out: the adapter's directory; a rejection leaves an earlier adapter there untouched.
        config: settings of the student side, the auditor and the verdict.
        depth: where the procedure lives, by default as the configuration says: "executed".
        updates: maximum number of optimiser steps, unless the configuration sets it.
        reuse: a trained adapter for the same program and teacher space; its vectors are replaced without training.
        probes: the spec with its truth: the verdict is then by truth instead of by the packet's rollout.
        trust: the policy that must accept the packet before any training; without one, its origin is not checked.

    Raises: SpecError for a configuration, TrustError for an origin; others see :mod:`m2kt.errors`.
    """
    from m2kt.auditor import judge

    started, say = time.monotonic(), progress or no_progress
    settings = IngestConfig.of(config, updates, depth)
    signer = local_signer()  # before training: without a key its receipt could not be signed
    packet = open_packet(packet, partial(say, "fetching the packet"))
    origin = check_origin(packet, trust)
    truth = None if probes is None else truth_of(probes, packet)
    program = examine_program(packet, truth, settings)
    transfer = _Transfer.load(student, packet, settings, (seed, program.seed), truth, device, dtype, Path(out), say)
    candidate = transfer.train() if reuse is None else transfer.reuse(reuse)
    training_seconds = time.monotonic() - started
    measurements = transfer.measure(candidate)
    verdict = judge(measurements, settings.thresholds)
    receipt = transfer.commit(candidate, verdict, origin, program, signer)
    return Ingestion(
        verdict=verdict,
        packet_accuracy=measurements.packet_accuracy or 0.0,
        updates=candidate.ledger["updates"],
        seconds=round(time.monotonic() - started, 2),
        training_seconds=round(training_seconds, 2),
        packet=packet.digest,
        adapter=Path(out),
        adapter_digest_before=transfer.digest_before,
        adapter_digest=adapter_digest(out),
        receipt=receipt,
        ledger=candidate.ledger,
        program=program,
    )


def record_origin(model: PeftModel, packet: Packet) -> None:
    """Write into an adapter's configuration whose skill it is and how sure the teacher was, for explanations."""
    from m2kt.student.cal import CALConfig, cal_model

    config = cast(CALConfig, model.peft_config[cal_model(model).active_adapters[0]])
    known = {"packet": packet.digest, "name": packet.manifest.name, "teacher": packet.manifest.teacher.name}
    config.origin = known if packet.signature is None else {**known, "signer": packet.signature.keyid}
    sure_K = packet.confidence_K
    config.confidences = [] if sure_K is None else [round(float(p), 4) for p in sure_K]


def refuse_contradictions(packet: Packet) -> None:
    """Raises PacketError where a row's text and vector decode to different symbols: tampering, or a bad extraction."""
    from m2kt.auditor import check_consistency

    contradictions = check_consistency(packet).contradictions
    if contradictions:
        raise PacketError(
            f"the packet contradicts itself in {len(contradictions)} of {packet.n_concepts} rows, such as "
            f"{contradictions[0]}: expected text and vector of a row to decode to one symbol; extract the packet again"
        )


def examine_program(packet: Packet, truth: Truth | None, settings: IngestConfig) -> ProgramReport:
    """What the packet's program can write, every leaf of it.

    Raises PacketError where it looks planted, or rows contradict themselves.
    """
    from m2kt.auditor import check_program

    refuse_contradictions(packet)
    most, prompts = settings.thresholds.suspicions, settings.evaluation_prompts
    report = check_program(packet, truth=truth, seed=settings.prompt_seed, prompts=prompts)
    if len(report.suspicions) > most:
        raise PacketError(
            f"{len(report.suspicions)} things in the packet's program look planted, such as {report.suspicions[0]}: "
            f"expected at most {most}; m2kt audit shows all, thresholds.suspicions permits them"
        )
    return report


def truth_of(probes: str | Path | ProbeSpec, packet: Packet) -> Truth | None:
    """The truth of the packet's prompts; None where the spec has none."""
    spec, base = read_spec(probes)
    if not spec.is_that_of(packet.spec):
        raise SpecError(
            f"expected the probe spec that the packet was extracted with, got another ({spec.name}); name the packet's"
        )
    return load_truth(spec, base)


@dataclass(frozen=True)
class _Adapted:
    """A student with its adapter, before the audit."""

    model: PeftModel
    ledger: dict[str, JsonValue]
    history: list[dict[str, float]]


@dataclass(frozen=True)
class _Transfer:
    """A packet and a student, loaded: what training, audit and commit share."""

    packet: Packet
    student: LoadedModel
    settings: IngestConfig
    seed: int
    prompt_seed: int
    """Of prompts that no author of a packet could know."""
    content: ContentReport | None
    truth: Truth | None
    out: Path
    digest_before: str | None
    say: Progress

    @classmethod
    def load(
        cls,
        student: str,
        packet: Packet,
        settings: IngestConfig,
        seeds: tuple[int, int],
        truth: Truth | None,
        device: str,
        dtype: Dtype,
        out: Path,
        say: Progress,
    ) -> _Transfer:
        """Reads the adapter at ``out``, audits the texts, then loads the student."""
        from m2kt.models import load_causal_lm

        digest_before = check_out(out)
        auditor = settings.content_auditor()
        content = None if auditor is None else auditor.audit_packet(packet)
        loaded = load_causal_lm(student, device=device, dtype=dtype)
        return cls(packet, loaded, settings, *seeds, content, truth, out, digest_before, say)

    def train(self) -> _Adapted:
        """Trains by rehearsal."""
        from m2kt.student import train

        candidate = train(
            self.student,
            self.packet,
            self.settings.student,
            updates=self.settings.updates,
            seed=self.seed,
            penalties={} if self.content is None else self.content.penalties,
            progress=lambda done, total, losses: self.say("rehearsing", done, total),
        )
        return self._adapted(candidate.model, candidate.ledger, candidate.history)

    def reuse(self, adapter: str | Path) -> _Adapted:
        """Replaces the vectors of a trained adapter."""
        from m2kt.student import replace_bank

        model = replace_bank(with_adapter(self.student, adapter).peft_model, self.packet)
        return self._adapted(model, {"labelled_examples": 0, "updates": 0, "rehearsal_sequences": 0}, [])

    def _adapted(self, model: PeftModel, training: Mapping[str, object], history: list[dict[str, float]]) -> _Adapted:
        manifest = self.packet.manifest
        record_origin(model, self.packet)
        ledger = {
            **training,
            "labelled_examples": manifest.ledger.labelled_examples,  # shown to the teacher: a student sees none
            "teacher_passes": manifest.ledger.teacher_passes,
            "teacher_tokens_in_packet": manifest.ledger.teacher_tokens_in_traces,
            "concepts": self.packet.n_concepts,
            "packet_bytes": self.packet.size_bytes,
        }
        return _Adapted(model, cast(dict[str, JsonValue], ledger), history)

    def measure(self, candidate: _Adapted) -> Measurements:
        """Everything that the auditor measures."""
        from m2kt.auditor import MeasureConfig, measure

        spec, settings = self.packet.spec, self.settings
        prompts = evaluation_prompts(spec, self.truth, settings.evaluation_prompts, seed=self.prompt_seed)
        held_out = []
        if self.truth is not None:
            n, among = settings.evaluation_prompts // 2, self.truth.problems
            held_out = spec.sample("evaluation", n, seed=self.prompt_seed, held_out=True, among=among)
        return measure(
            replace(self.student, model=candidate.model),
            self.packet,
            prompts,
            held_out=held_out,
            truth=self.truth,
            content=self.content,
            history=candidate.history,
            config=MeasureConfig(
                low_confidence=settings.thresholds.doubt,
                certificate_traces=settings.certificate_traces,
                trigger_strings=settings.trigger_strings,
                seed=self.prompt_seed,
            ),
            progress=self.say,
        )

    def commit(
        self,
        candidate: _Adapted,
        verdict: Verdict,
        origin: TrustVerdict | None,
        program: ProgramReport,
        signer: CryptoSigner,
    ) -> Path:
        """Writes an accepted adapter, or the receipt of a rejection; returns the receipt's path."""
        packet, ledger = self.packet, candidate.ledger
        config: dict[str, JsonValue] = {
            "student": self.settings.student.model_dump(mode="json"),
            "updates": ledger["updates"],
            "seed": self.seed,
        }
        draft = receipt_of(packet, self.student, config, ledger, verdict, origin, program, self.digest_before, signer)
        if verdict.verdict == "rejected":
            return write_rejected(self.out, draft.sign(None))
        record = {
            "packet": packet.digest,
            "student": self.student.digest,
            "config": config,
            "ledger": ledger,
            **verdict.model_dump(mode="json"),
        }
        card = adapter_card(draft, self.student)
        commit_adapter(candidate.model, self.out, record, self.digest_before, draft.sign, card)
        return self.out / RECEIPT
