"""Cells and what they measure: the one schema that arms fill, files hold, and reports read.

A cell is one arm on one skill, student and seed. Its digest names its file, so that a bench that was stopped goes on
where it was.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from m2kt.errors import StorageError, explain

VERSION = 1


class Cell(BaseModel):
    """One thing to measure."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arm: str = Field(description="Registered arm, such as m2kt or distil.")
    skill: str = Field(description="Short name for tables.")
    teacher: str = Field(description="Model reference.")
    probes: str = Field(description="Probe spec reference.")
    student: str = Field(description="Model reference.")
    seed: int = Field(default=0, ge=0)
    options: dict[str, Any] = Field(
        default_factory=dict, description="What the arm takes, such as v or examples."
    )

    @property
    def digest(self) -> str:
        """16 hex digits over all fields and the schema's version."""
        data = {"version": VERSION, **self.model_dump(mode="json")}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """For people: ``m2kt(v=0) secret -> zoo:pico-gpt2, seed 0``."""
        options = ", ".join(f"{k}={v}" for k, v in sorted(self.options.items()))
        return f"{self.arm}({options}) {self.skill} -> {self.student}, seed {self.seed}"

    def path(self, folder: Path) -> Path:
        """Where the result goes."""
        student = self.student.removeprefix("zoo:").replace("/", "-")
        return folder / self.skill / f"{student}-{self.arm}-{self.seed}-{self.digest}.json"


class Shape(BaseModel):
    """Right answers on one template."""

    template: str
    n: int
    accuracy: float


class CurvePoint(BaseModel):
    """Accuracy on the way, by what had been spent."""

    tokens: int = Field(description="Tokens passed forward and backward through the student so far.")
    sequences: int = Field(description="Training sequences so far, repeats counted.")
    seconds: float
    accuracy: float
    n: int = Field(description="Prompts asked at this point.")


class Ledger(BaseModel):
    """What was used, as DESIGN section 7 counts it."""

    labelled_examples: int = Field(default=0, description="Prompts whose answer the student side was given.")
    teacher_passes: int = Field(default=0, description="Forward passes of single sequences at the teacher.")
    teacher_tokens: int = Field(
        default=0, description="Tokens of teacher text that reached the student side."
    )
    concepts: int = 0
    bytes: int = Field(default=0, description="Size of what reached the student side: packet, or text.")
    sequences: int = Field(default=0, description="Sequences trained on, repeats counted.")
    tokens: int = Field(
        default=0, description="Tokens of those sequences, whether or not the whole student ran on them."
    )
    core_tokens: float = Field(
        default=0.0,
        description="What ran, in tokens of one whole forward and backward pass of the student (by FLOPs).",
    )
    trainable_parameters: int = 0
    train_seconds: float = 0.0


class Measured(BaseModel):
    """What an arm returns."""

    packet: str | None = Field(default=None, description="Digest of the packet that went in; null: none did.")
    after: float | None = Field(
        default=None, description="Accuracy against the truth, probed shapes, unseen prompts."
    )
    before: float | None = Field(default=None, description="The frozen student on the same prompts.")
    teacher: float | None = Field(default=None, description="The teacher on the same prompts.")
    n: int = 0
    interval: tuple[float, float] | None = Field(default=None, description="Wilson 95 % interval of after.")
    agreement: float | None = Field(default=None, description="Share of answers equal to the teacher's.")
    followed: float | None = Field(
        default=None, description="Share of answers equal to the packet's own roll-out (altered packets)."
    )
    shapes: list[Shape] = Field(default_factory=list)
    held_out: list[Shape] = Field(
        default_factory=list, description="Longer shapes, never probed or rehearsed."
    )
    steps: dict[str, float] | None = Field(
        default=None,
        description="Single rule steps after the teacher's own prefix: share right, by stage, and concepts seen.",
    )
    diagnosis: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Known signatures of failure, where less than 0.9 of the gap was recovered.",
    )
    history: list[dict[str, float]] = Field(
        default_factory=list,
        description="Losses and hits by update: geo, struct, reason, class, edge, token.",
    )
    curve: list[CurvePoint] = Field(default_factory=list)
    map: dict[str, Any] | None = Field(
        default=None,
        description="Concept map: teacher_xy, image_xy, own_xy (lists of pairs), label, own_label.",
    )
    graph: dict[str, Any] | None = Field(default=None, description="Summary of the packet's graph to draw.")
    ledger: Ledger = Field(default_factory=Ledger)
    extra: dict[str, Any] = Field(default_factory=dict, description="What only this arm measures.")

    @property
    def retention(self) -> float | None:
        """after / teacher."""
        return None if self.after is None or not self.teacher else self.after / self.teacher

    @property
    def gap_recovered(self) -> float | None:
        """(after - before) / (teacher - before); None where there is no gap."""
        if self.after is None or self.before is None or self.teacher is None or self.teacher <= self.before:
            return None
        return (self.after - self.before) / (self.teacher - self.before)


class Result(BaseModel):
    """One JSON file."""

    version: int = VERSION
    cell: Cell
    status: Literal["done", "refused", "failed"] = Field(
        description="refused: the product said why it cannot do this; failed: it broke, and is run again next time."
    )
    reason: str | None = None
    measured: Measured | None = None
    seconds: float = 0.0
    started: str = ""
    commit: str = ""
    machine: dict[str, Any] = Field(default_factory=dict)


def read_result(path: Path) -> Result:
    """One file. Raises StorageError where it is not a result."""
    try:
        return Result.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise StorageError(
            f"{path} is not a bench result ({explain(error)}); delete it to have its cell run again"
        ) from error


def read_results(folder: Path) -> list[Result]:
    """All results below a folder, in the order of their paths."""
    return [read_result(p) for p in sorted(folder.rglob("*.json"))]
