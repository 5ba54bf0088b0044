"""Cells and what they measure: the schema of the result files.

A cell is one experiment on one skill, student and seed. Its digest names its file, so that a stopped bench can resume.
The fields and JSON keys are public: ``arm`` is the experiment's name there.
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
    """One measurement of the bench."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arm: str = Field(description="Name of the experiment, such as m2kt or distil.")
    skill: str = Field(description="Short name for tables.")
    teacher: str = Field(description="Model reference.")
    probes: str = Field(description="Probe spec reference.")
    student: str = Field(description="Model reference.")
    seed: int = Field(default=0, ge=0)
    options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the experiment, such as v or examples."
    )

    @property
    def digest(self) -> str:
        """16 hex digits over all fields and the schema's version."""
        data = {"version": VERSION, **self.model_dump(mode="json")}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """For messages and tables: ``m2kt(v=0) secret -> zoo:pico-gpt2, seed 0``."""
        options = ", ".join(f"{k}={v}" for k, v in sorted(self.options.items()))
        return f"{self.arm}({options}) {self.skill} -> {self.student}, seed {self.seed}"

    def path(self, folder: Path) -> Path:
        """The file of the result."""
        student = self.student.removeprefix("zoo:").replace("/", "-")
        return folder / self.skill / f"{student}-{self.arm}-{self.seed}-{self.digest}.json"


class Shape(BaseModel):
    """Accuracy on one template."""

    template: str
    n: int
    accuracy: float


class CurvePoint(BaseModel):
    """One point of a learning curve: accuracy after some training, and the cost up to it."""

    tokens: int = Field(description="Tokens passed forward and backward through the student so far.")
    sequences: int = Field(description="Training sequences so far, repeats counted.")
    seconds: float
    accuracy: float
    n: int = Field(description="Prompts of the evaluation at this point.")


class Ledger(BaseModel):
    """What was used: data, teacher passes, training."""

    labelled_examples: int = Field(default=0, description="Prompts whose answer reached the student side.")
    teacher_passes: int = Field(default=0, description="Forward passes of single sequences at the teacher.")
    teacher_tokens: int = Field(default=0, description="Tokens of teacher text that reached the student side.")
    concepts: int = 0
    bytes: int = Field(default=0, description="Size of what reached the student side: packet, or text.")
    sequences: int = Field(default=0, description="Sequences trained on, repeats counted.")
    tokens: int = Field(
        default=0,
        description="Tokens of those sequences, whether or not a pass went through the whole student.",
    )
    core_tokens: float = Field(
        default=0.0,
        description="Whole-pass tokens: what ran, in tokens of one forward and backward pass of the student, by FLOPs.",
    )
    trainable_parameters: int = 0
    train_seconds: float = 0.0


class Measured(BaseModel):
    """What an experiment returns."""

    packet: str | None = Field(default=None, description="Digest of the ingested packet; null: there is none.")
    after: float | None = Field(default=None, description="Accuracy against the truth, probed shapes, unseen prompts.")
    before: float | None = Field(default=None, description="The frozen student on the same prompts.")
    teacher: float | None = Field(default=None, description="The teacher on the same prompts.")
    n: int = 0
    interval: tuple[float, float] | None = Field(default=None, description="Wilson 95 % interval of after.")
    agreement: float | None = Field(default=None, description="Share of answers equal to the teacher's.")
    followed: float | None = Field(
        default=None, description="Share of answers equal to the packet's rollout (altered packets)."
    )
    shapes: list[Shape] = Field(default_factory=list)
    held_out: list[Shape] = Field(default_factory=list, description="Longer shapes, never probed or rehearsed.")
    steps: dict[str, float] | None = Field(
        default=None,
        description="Single rule steps after the packet's own prefix: share right, by stage, and concepts used.",
    )
    diagnosis: list[dict[str, Any]] = Field(
        default_factory=list,
        description="The first failing stages, where less than 0.9 of the gap was recovered.",
    )
    history: list[dict[str, float]] = Field(
        default_factory=list,
        description="Losses and accuracies by update: geo, struct, reason, class, edge, token.",
    )
    curve: list[CurvePoint] = Field(default_factory=list)
    map: dict[str, Any] | None = Field(
        default=None,
        description="Concept map: teacher_xy, image_xy, own_xy (lists of pairs), label, own_label.",
    )
    graph: dict[str, Any] | None = Field(default=None, description="Summary of the packet's traces, for the report.")
    ledger: Ledger = Field(default_factory=Ledger)
    extra: dict[str, Any] = Field(default_factory=dict, description="What only this experiment measures.")

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
        description="refused: M2KT said why it cannot do this; failed: an error, the cell is run again next time."
    )
    reason: str | None = None
    measured: Measured | None = None
    seconds: float = 0.0
    started: str = ""
    commit: str = ""
    machine: dict[str, Any] = Field(default_factory=dict)


def read_result(path: Path) -> Result:
    """Read one file. Raises StorageError if it is not a result."""
    try:
        return Result.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise StorageError(
            f"{path} is not a bench result ({explain(error)}); delete it, and its cell runs again"
        ) from error


def read_results(folder: Path) -> list[Result]:
    """All results below a folder, sorted by path."""
    return [read_result(p) for p in sorted(folder.rglob("*.json"))]
