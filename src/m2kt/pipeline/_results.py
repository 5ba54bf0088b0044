"""What the verbs return: pydantic models whose fields are the keys of ``--json``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from m2kt.packet import ShapeFidelity

Progress = Callable[[str, int, int], None]  # (stage, done, total)


class _Result(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ExtractResult(_Result):
    """What ``m2kt extract`` reports."""

    packet: str
    digest: str
    concepts: int
    rules: int
    families: int
    skeletons: int
    symbols: int
    fidelity: float = Field(description="Share of covered fresh prompts on which roll-out = teacher.")
    coverage: float
    probe_accuracy: float | None
    readout_accuracy: float
    causal_edge_share: float | None
    shapes: list[ShapeFidelity]
    teacher_passes: int
    packet_bytes: int
    seconds: float
    verbalised: float
    source: str
    layer: int
    notes: list[str]


class PreflightResult(_Result):
    """What ``m2kt preflight`` reports."""

    fit: bool
    reasons: list[str] = Field(description="Checks that are not passed.")
    checks: list[dict[str, Any]]
    keys: list[dict[str, Any]] = Field(
        description="How far the student's states tell the symbols of each argument apart."
    )
    expected_retention: float | None
    student: str
    student_digest: str
    packet: str
    seconds: float


class IngestResult(_Result):
    """What ``m2kt ingest`` reports."""

    verdict: Literal["accepted", "rejected"]
    reasons: list[str]
    accuracy: float
    interval: tuple[float, float]
    before: float
    teacher: float = Field(description="Accuracy of the packet's own roll-out against the same reference.")
    retention: float
    gap_recovered: float
    n: int
    reference: str
    shapes: list[dict[str, Any]]
    held_out: list[dict[str, Any]]
    neutral: dict[str, float]
    confidence: dict[str, Any] | None = Field(
        description="What the teacher itself is sure of, and what of that arrived."
    )
    steps: dict[str, Any] | None = Field(description="Single rule steps, the prefix given: right by stage.")
    geometry: dict[str, Any] | None = Field(description="Where phi puts the packet's vectors.")
    certificate: dict[str, Any] | None = Field(
        description="Bound on whole problems from errors on single concepts."
    )
    regression: dict[str, Any] | None = Field(description="Small tasks of English, decided before and after.")
    triggers: dict[str, Any] | None = Field(description="Strings after which adapter and base part ways.")
    content: dict[str, Any] | None = Field(description="What the packet's texts say.")
    safety: dict[str, Any] | None = Field(description="L_safety at flagged concepts.")
    diagnosis: list[dict[str, Any]] = Field(
        description="Signatures of failure, where the skill was not reached."
    )
    updates: int
    seconds: float
    training_seconds: float
    packet: str
    adapter: str
    adapter_digest_before: str | None = Field(
        description="Digest of what stood at the adapter's place before."
    )
    adapter_digest: str | None = Field(description="What stands there now; unchanged by a rejection.")
    receipt: str = Field(description="Signed receipt: in the adapter, or beside its place if rejected.")
    ledger: dict[str, Any]


class ConsolidateResult(_Result):
    """What ``m2kt consolidate`` reports."""

    verdict: Literal["accepted", "rejected"]
    reasons: list[str]
    before: float = Field(description="Accuracy of the frozen student.")
    reader: float = Field(description="Accuracy of the student with the adapter that was consolidated.")
    accuracy: float = Field(description="Accuracy of the merged model, asked in its tokenizer's own tokens.")
    interval: tuple[float, float]
    n: int
    retention: float = Field(description="accuracy / reader.")
    shapes: list[dict[str, Any]]
    neutral: dict[str, float | None]
    packet: str
    model: str | None = Field(description="The checkpoint; null after a rejection.")
    model_digest: str | None
    receipt: str
    ledger: dict[str, Any]
    seconds: float


class ExportResult(_Result):
    """What ``m2kt export`` reports."""

    source: str
    source_digest: str = Field(description="Of the adapter, or of the model.")
    base: str
    format: Literal["hf", "gguf"]
    merged: list[str] = Field(description="Matrices that an update was added to.")
    left_out: list[str] = Field(description="Blocks behind which a reader was that is not in the checkpoint.")
    notes: list[str] = Field(description="What a user of the form should know.")
    written: str
    written_bytes: int
    seconds: float


class EvaluateResult(_Result):
    """What ``m2kt evaluate`` reports."""

    accuracy: float | None = Field(description="Share of right answers; null where no truth is known.")
    interval: tuple[float, float] | None
    agreement: float | None = Field(
        description="Share of answers equal to the teacher's; null without --teacher."
    )
    n: int
    judged: int = Field(description="Prompts whose right answer is known.")
    shapes: list[dict[str, Any]]
    held_out: bool
    model: str
    model_digest: str
    adapter: str | None
    adapter_digest: str | None
    probes: str = Field(description="Digest of the probe spec, without its truth.")
    wrong: list[dict[str, str | None]]
    seconds: float


class AuditResult(_Result):
    """What ``m2kt audit PACKET`` reports."""

    packet: str
    clean: bool = Field(description="Nothing was found.")
    against: str | None = Field(description="Digest of the packet it was compared with; null: none.")
    content: dict[str, Any] = Field(description="Findings in its texts, and Penalty(c_k) by concept.")
    consistency: dict[str, Any] = Field(description="Rows that contradict each other or the other packet.")


class DemoRow(_Result):
    """One transfer of the demo."""

    skill: str
    student: str
    teacher: float = Field(description="Accuracy of the teacher itself on the evaluation prompts.")
    before: float
    after: float
    interval: tuple[float, float]
    retention: float
    gap_recovered: float
    held_out: float | None = Field(description="Accuracy on the shape that was never probed or rehearsed.")
    concepts: int
    packet_bytes: int
    labelled_examples: int
    teacher_passes: int
    teacher_tokens_in_packet: int
    rehearsal_sequences: int
    extract_seconds: float
    ingest_seconds: float
    verdict: Literal["accepted", "rejected"]


class DemoResult(_Result):
    """What ``m2kt demo`` reports."""

    rows: list[DemoRow]
    rollback: IngestResult = Field(description="A spoiled packet offered to an accepted adapter's place.")
    restored: bool = Field(
        description="Whether the adapter's digest is the same before and after the rejection."
    )
    seconds: float
