"""What the verbs return: nested pydantic models. ``report()`` is the JSON of ``--json``, whose keys are frozen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, JsonValue

from m2kt.packet import Packet
from m2kt.pipeline._report import Report, Result, to_report, with_interval
from m2kt.probes import ShapeScore
from m2kt.render import percent

if TYPE_CHECKING:
    from m2kt.auditor import Certificate, Confidence, Consistency, ContentReport, ProgramReport, Steps, Verdict
    from m2kt.student import Preflight
    from m2kt.teacher import ExtractionDetails
else:  # importing the pipeline loads no torch: models of these packages were validated where they were made
    Consistency = ContentReport = ProgramReport = ExtractionDetails = Preflight = Verdict = Any


class Extraction(Result):
    """A teacher's skill as a packet."""

    packet: Packet = Field(description="Signed if it was saved.")
    path: Path | None = Field(description="Where the packet was saved.")
    details: ExtractionDetails = Field(description="Everything that the extraction measured.", repr=False)

    def report(self) -> Report:
        manifest, program = self.packet.manifest, self.packet.program
        return {
            "packet": str(self.path),
            "digest": self.packet.digest,
            "concepts": self.packet.n_concepts,
            "rules": len(program.rules),
            "families": len({rule.family for rule in program.rules}),
            "states": len(program.states),
            "symbols": len(program.symbols),
            "fidelity": self.details.fidelity.agreement,
            "coverage": self.details.fidelity.coverage,
            "probe_accuracy": manifest.fidelity.probe_accuracy,
            "readout_accuracy": manifest.fidelity.other.get("readout_accuracy"),
            "causal_edge_share": manifest.fidelity.causal_edge_share,
            "shapes": [to_report(shape) for shape in manifest.fidelity.shapes],
            "equality": None if manifest.equality is None else to_report(manifest.equality),
            "teacher_passes": self.details.teacher_passes,
            "teacher_tokens": self.details.teacher_tokens,
            "teacher_tokens_shared": self.details.teacher_tokens_shared,
            "packet_bytes": self.packet.size_bytes,
            "seconds": round(self.details.seconds, 2),
            "verbalised": manifest.verbalised,
            "source": manifest.embedding.source,
            "layer": manifest.embedding.layer,
            "notes": list(manifest.notes),
        }

    def headline(self) -> str:
        fidelity = percent(self.details.fidelity.agreement, 2)
        return f"{self.packet.manifest.name}: {self.packet.n_concepts} concepts, agreement {fidelity}; {self.path}"

    def table(self) -> dict[str, str]:
        fidelity, program = self.packet.manifest.fidelity, self.packet.program
        return {
            "packet": str(self.path),
            "concepts": f"{self.packet.n_concepts} in {len(program.rules)} rules",
            "program": f"{len(program.states)} states, {program.n_leaves} leaves",
            "fidelity (agreement)": percent(self.details.fidelity.agreement, 2),
            "coverage": percent(self.details.fidelity.coverage, 2),
            "probe accuracy": percent(fidelity.probe_accuracy),
            "causal attention edges": percent(fidelity.causal_edge_share),
            "teacher passes": f"{self.details.teacher_passes:,}",
            "bytes": f"{self.packet.size_bytes:,}",
            "seconds": f"{self.details.seconds:.1f}",
        }

    def remarks(self) -> list[str]:
        return [f"note: {note}" for note in self.packet.manifest.notes]


class PreflightResult(Result):
    """Whether a student is fit for a packet."""

    student: str
    student_digest: str
    packet: str = Field(description="Digest of the packet.")
    preflight: Preflight = Field(description="Every check, and the separability of each argument's symbols.")
    seconds: float

    @property
    def fit(self) -> bool:
        """Whether all checks that could be made are passed."""
        return self.preflight.fit

    @property
    def reasons(self) -> list[str]:
        """The checks that failed."""
        return self.preflight.reasons

    def report(self) -> Report:
        return {
            "reasons": list(self.reasons),
            **to_report(self.preflight),
            **to_report(self, exclude={"preflight"}),
        }

    def headline(self) -> str:
        return f"{'fit' if self.fit else 'unfit'}: {self.student}"

    def table(self) -> dict[str, str]:
        return {check.name: str(check) for check in self.preflight.checks}


class Ingestion(Result):
    """The verdict on a student with a packet, and what was committed."""

    verdict: Verdict
    packet_accuracy: float = Field(
        description="Accuracy of the packet's rollout by the same reference; `teacher` in the report."
    )
    updates: int = Field(description="Optimiser steps taken.")
    seconds: float
    training_seconds: float
    packet: str = Field(description="Digest of the packet.")
    adapter: Path = Field(description="Where the adapter is, or would have been.")
    adapter_digest_before: str | None = Field(description="Digest of the adapter there before; null: none.")
    adapter_digest: str | None = Field(description="Digest of the adapter there now; a rejection changes nothing.")
    receipt: Path = Field(description="The signed receipt: in the adapter, or beside it after a rejection.")
    ledger: dict[str, JsonValue] = Field(description="What was used: examples, passes, tokens, bytes, seconds.")
    program: ProgramReport = Field(description="How the packet's program was exercised before training.")

    @property
    def accepted(self) -> bool:
        """Whether the adapter was written."""
        return self.verdict.verdict == "accepted"

    def report(self) -> Report:
        return {
            **to_report(self.verdict, exclude={"readable", "thresholds"}),
            "teacher": self.packet_accuracy,
            **to_report(self, exclude={"verdict", "packet_accuracy", "program"}),
            "program": to_report(self.program, exclude={"lines"}),
        }

    def headline(self) -> str:
        return (
            f"{self.verdict.verdict}: accuracy {with_interval(self.verdict.accuracy, self.verdict.interval)}; "
            f"{self.adapter if self.accepted else self.receipt}"
        )

    def table(self) -> dict[str, str]:
        v = self.verdict
        return {
            "student before": percent(v.before),
            "student after": with_interval(v.accuracy, v.interval),
            "packet's rollout": percent(self.packet_accuracy),
            "retention": percent(v.retention),
            "gap recovered": percent(v.gap_recovered),
            "in other surroundings": _surroundings(v),
            "single steps, teacher-forced": _steps(v.steps),
            "high teacher confidence": _confidence(v.confidence),
            "certified agreement with the packet": _certificate(v.certificate),
            "reference": v.reference,
            "prompts": str(v.n),
            "updates": str(self.updates),
            "seconds": f"{self.seconds:.1f}",
            "adapter": str(self.adapter) if self.accepted else "unchanged",
            "receipt": str(self.receipt),
            "digest before": str(self.adapter_digest_before),
            "digest now": str(self.adapter_digest),
        }

    def remarks(self) -> list[str]:
        reasons = [f"because: {reason}" for reason in self.verdict.reasons]
        if self.program.disagreements:
            first = self.program.disagreements[0]
            reasons.append(
                f"the packet is wrong at {len(self.program.disagreements)} or more of {self.program.compared} prompts "
                f"that cover its program, such as {first.prompt!r}: {first.writes!r}, expected {first.other!r}"
            )
        if self.verdict.dissent:
            shown = ", ".join(self.verdict.dissent[:5]) + (", ..." if len(self.verdict.dissent) > 5 else "")
            reasons.append(f"{len(self.verdict.dissent)} rows are undecided, for teachers dissent: {shown}")
        return reasons + [f"diagnosis: {d.name}. {d.says}" for d in self.verdict.diagnosis]


class Consolidation(Result):
    """The verdict on a checkpoint that imitates an accepted adapter."""

    verdict: Verdict
    reader_accuracy: float = Field(description="Accuracy of the student with the adapter; `reader` in the report.")
    packet: str = Field(description="Digest of the packet.")
    model: Path | None = Field(description="The checkpoint; null after a rejection.")
    model_digest: str | None
    receipt: Path
    ledger: dict[str, JsonValue]
    seconds: float

    @property
    def accepted(self) -> bool:
        """Whether the checkpoint was written."""
        return self.verdict.verdict == "accepted"

    def report(self) -> Report:
        measured = {
            "verdict",
            "reasons",
            "before",
            "accuracy",
            "interval",
            "n",
            "retention",
            "shapes",
            "neutral",
        }
        return {
            **to_report(self.verdict, include=measured),
            "reader": self.reader_accuracy,
            **to_report(self, exclude={"verdict", "reader_accuracy"}),
        }

    def headline(self) -> str:
        accuracy = with_interval(self.verdict.accuracy, self.verdict.interval)
        return f"{self.verdict.verdict}: accuracy {accuracy}; {self.model or self.receipt}"

    def table(self) -> dict[str, str]:
        return {
            "accuracy": with_interval(self.verdict.accuracy, self.verdict.interval),
            "with the reader": percent(self.reader_accuracy),
            "frozen student": percent(self.verdict.before),
            "tokens": f"{self.ledger['tokens']:,} in {self.ledger['updates']} updates",
            "checkpoint": str(self.model or "not written"),
        }

    def remarks(self) -> list[str]:
        return [f"because: {reason}" for reason in self.verdict.reasons]


class ExportResult(Result):
    """A checkpoint that needs no m2kt."""

    source: str
    source_digest: str = Field(description="Of the adapter, or of the model.")
    base: str
    format: Literal["hf", "gguf"]
    merged: list[str] = Field(description="Matrices that an update was added to.")
    left_out: list[str] = Field(description="Blocks whose reader is not in the checkpoint.")
    notes: list[str] = Field(description="Limits of the format.")
    written: str
    written_bytes: int
    seconds: float

    def headline(self) -> str:
        return f"{self.format}: {self.written}"

    def table(self) -> dict[str, str]:
        return {
            "written": self.written,
            "bytes": f"{self.written_bytes:,}",
            "base": self.base,
            "merged": f"{len(self.merged)} matrices",
        }

    def remarks(self) -> list[str]:
        left_out = [f"left out: the reader after {name}, and its skill" for name in self.left_out]
        return left_out + [f"note: {note}" for note in self.notes]


class EvaluateResult(Result):
    """Right answers of a model, and its agreement with a teacher."""

    accuracy: float | None = Field(description="Share of right answers; null where no truth is known.")
    interval: tuple[float, float] | None = Field(description="Wilson 95 % interval of the accuracy.")
    agreement: float | None = Field(description="Share of answers equal to the teacher's; null without --teacher.")
    n: int = Field(description="Prompts asked.")
    judged: int = Field(description="Prompts whose right answer is known.")
    shapes: list[ShapeScore]
    held_out: bool = Field(description="Whether held-out shapes were asked.")
    model: str
    model_digest: str
    adapter: str | None
    adapter_digest: str | None
    probes: str = Field(description="Digest of the probe spec, without its truth.")
    wrong: list[dict[str, str | None]] = Field(description="A few wrong answers.")
    seconds: float

    def headline(self) -> str:
        return f"accuracy {with_interval(self.accuracy, self.interval)} of {self.judged} prompts; {self.model}"

    def table(self) -> dict[str, str]:
        return {
            "accuracy": with_interval(self.accuracy, self.interval),
            "agreement with the teacher": percent(self.agreement),
            "prompts": f"{self.n} ({self.judged} with a known answer)",
        }

    def remarks(self) -> list[str]:
        return [f"wrong: {answer}" for answer in self.wrong[:5]]


SHOWN_DISAGREEMENTS = 5


class AuditResult(Result):
    """Findings in a packet's texts and rows."""

    packet: str = Field(description="Digest of the packet.")
    against: str | None = Field(description="Digest of the packet it was compared with; null: none.")
    content: ContentReport = Field(description="Findings in its texts, and Penalty(c_k) by concept.")
    consistency: Consistency = Field(description="Rows that contradict each other or the other packet.")
    program: ProgramReport = Field(description="What its program can write, every leaf of it.")

    @property
    def clean(self) -> bool:
        """Whether there is no finding."""
        texts = not self.content.findings and not self.content.penalties
        return texts and self.consistency.consistent and self.program.clean

    def report(self) -> Report:
        return {**to_report(self), "clean": self.clean}

    def headline(self) -> str:
        return (
            f"{len(self.content.findings)} of {self.content.texts} texts flagged, {len(self.content.penalties)} "
            f"concepts with a penalty, {len(self.consistency.contradictions)} contradictions, "
            f"{len(self.program.suspicions)} suspicions of the program, {len(self.program.disagreements)} disagreements"
        )

    def table(self) -> dict[str, str]:
        common = self.consistency.common
        program, narrowest = self.program, self.program.lines[0] if self.program.lines else None
        rows = {
            "detectors": ", ".join(self.content.detectors),
            "rows as text and vector": f"{self.consistency.both} of {self.consistency.rows}",
            "leaves met": f"{program.leaves - program.unmet} of {program.leaves}, by {program.prompts} prompts",
        }
        if narrowest is not None:
            rows["narrowest line"] = f"{narrowest.text!r} ({narrowest.where}, share {narrowest.share})"
        return rows if common is None else {**rows, "rows in the other packet": str(common)}

    def remarks(self) -> list[str]:
        program = [f"looks planted: {suspicion}" for suspicion in self.program.suspicions]
        different = [f"{d.prompt!r}: writes {d.writes!r}, {d.by} has {d.other!r}" for d in self.program.disagreements]
        return [str(row) for row in self.consistency.contradictions] + program + different[:SHOWN_DISAGREEMENTS]


def _confidence(confidence: Confidence | None) -> str:
    if confidence is None:
        return percent(None)
    high = f"{confidence.n - confidence.doubted} of {confidence.n} prompts"
    parts = (("high", confidence.sure), ("low", confidence.unsure))
    return ", ".join(
        [
            high,
            *(f"{percent(part.as_packet)} at {name} confidence as the packet" for name, part in parts if part),
        ]
    )


def _certificate(certificate: Certificate | None) -> str:
    if certificate is None:
        return percent(None)
    return (
        f"at least {percent(certificate.bound)} (from divergences: {percent(certificate.divergence_bound)}), at "
        f"{percent(certificate.confidence, 0)}, {certificate.rule_steps:.1f} rule steps per problem, "
        f"{certificate.traces} traces"
    )


def _surroundings(verdict: Verdict) -> str:
    """The worst accuracy with other text around the question, and whether what is no question is left alone."""
    others = verdict.surroundings[1:]
    asked = [row for row in others if row.expected == "right"]
    worst = min(asked, key=lambda row: row.accuracy, default=None)
    if worst is None:
        return "not measured"
    said = f"{percent(worst.accuracy)} of {worst.n} {worst.name}, the lowest of {len(asked)}"
    quiet = [row for row in others if row.expected == "silent"]
    spoke = [f"{row.wrong} of {row.n} {row.name}" for row in quiet if row.wrong]
    if spoke:
        return f"{said}; not silent in {', '.join(spoke)}"
    return said + (f"; silent {', '.join(row.name for row in quiet)}" if quiet else "")


def _steps(steps: Steps | None) -> str:
    if steps is None or not steps.n:
        return percent(None)
    stages = {"selected": steps.selected, "gathered": steps.gathered, "retrieved": steps.retrieved}
    measured = ", ".join(f"{name} {percent(share)}" for name, share in stages.items() if share is not None)
    seen = f"{percent(steps.concepts_seen, 0)} of the concepts"
    return f"{percent(steps.read_out)} of {steps.n}" + (f" ({measured}), " if measured else ", ") + seen
