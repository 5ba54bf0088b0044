"""What a user may choose about the student side: the CAL's shape, the losses, rehearsal and the optimiser.

One set of defaults for all skills and students; layers are given as fractions of the student's depth.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from m2kt._yaml import read_yaml_file
from m2kt.errors import SpecError, explain

Depth = Literal["executed", "learned"]
"""How deep a skill is taken in."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ReaderSettings(_Part):
    """The concept reader."""

    kind: Literal["structured", "flat", "none"] = Field(
        "structured",
        description="Selector and gather heads; one key a concept; or no reader, for steering alone.",
    )
    read_depths: list[float] = Field([0.5], description="Which states are read, as fractions of the student's depth.")
    write_depth: float = Field(0.85, gt=0, le=1, description="Where the reader writes, as a fraction of the depth.")
    stream_gradient: bool = Field(
        False,
        description="Let L_reason train steering through the stream, not only through what the reader writes.",
    )
    gather_width: int = Field(64, ge=8, description="Width of a gather head.")
    gather_rope: bool = Field(True, description="Give gather heads relative positions.")
    look_heads: int = Field(8, ge=0, description="Heads that look around for the selector.")
    look_width: int = Field(32, ge=4, multiple_of=4, description="Width of what a look head brings back.")
    state_width: int = Field(192, ge=8, description="Width to which the states that are read are brought first.")
    unit_width: int = Field(
        64, ge=0, description="Width of the embeddings of the last units at a position; 0 for none."
    )
    selector_width: int = Field(256, ge=8, description="Hidden width of the selector, on which gather heads draw too.")
    places: bool = Field(True, description="Let the selector tell where in the packet's program a trace is.")
    silence: float = Field(0.5, ge=0.0, le=1.0, description="Inject nothing where p(none) reaches this; 1: off.")
    write_literals: bool = Field(True, description="Let the reader write the answers' literal units as well.")


class ProjectorSettings(_Part):
    """phi: from the teacher's vectors to the student's stream."""

    kind: Literal["anchored", "linear", "low_rank", "mlp"] = Field(
        "anchored",
        description="Form of phi: mixture of the symbols nearest to a vector, or a map of the vector itself.",
    )
    width: int = Field(256, ge=1, description="Inner width of low_rank and mlp.")
    anchor_coordinates: bool = Field(False, description="Also feed the cosine to every symbol anchor.")
    start: Literal["ridge", "random"] = Field(
        "ridge", description="Closed-form start from the student's own states, or random."
    )
    ridge: float = Field(1.0, gt=0, description="Ridge penalty relative to the mean feature variance.")
    gain: float | None = Field(
        None,
        gt=0,
        description="Size of the closed-form targets, in typical deviations of the stream; null: the best of a few.",
    )
    unembedding: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of the token's unembedding direction in the closed-form targets; null: the best of a few.",
    )


class SteeringSettings(_Part):
    """Low-rank updates of the student's own projections."""

    rank: int = Field(0, ge=0, description="Rank; 0 for none, which leaves the stream of the frozen student alone.")
    alpha: float = Field(16.0, gt=0, description="Updates are scaled by alpha / rank.")
    first_depth: float = Field(0.2, ge=0, le=1, description="First steered block, as a fraction of the depth.")
    last_depth: float = Field(0.5, ge=0, le=1, description="Last steered block, as a fraction of the depth.")
    targets: list[str] | None = Field(
        None, description="Last names of steered layers; all linear ones of a block if null."
    )


class LossSettings(_Part):
    """Weights of the composite loss; 0 switches a term off."""

    geo: float = Field(0.1, ge=0, description="alpha, L_geo.")
    struct: float = Field(1.0, ge=0, description="beta, L_struct.")
    reason: float = Field(0.1, ge=0, description="gamma, L_reason.")
    safety: float = Field(1.0, ge=0, description="lambda, L_safety; works on flagged concepts only.")
    silence: float = Field(0.2, ge=0, description="Keeping silent on lines outside the skill.")
    retain: float = Field(0.0, ge=0, description="KL to the frozen student on those lines; of use with steering only.")


class RehearsalSettings(_Part):
    """What the student rehearses."""

    batch: int = Field(24, ge=1, description="Traces an update.")
    fresh_every: int = Field(
        2,
        ge=1,
        description="Every how many updates fresh traces are drawn; the others take traces met before, whose states "
        "in the frozen core are known. 1 where the core's states change with training.",
    )
    written: float = Field(
        0.25,
        gt=0,
        le=1,
        description="Share of fresh traces that the student writes out (L_reason); of the rest only the lower blocks "
        "are run, up to where the reader reads.",
    )
    verbalised: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of the verbalised rows that keep their true output and vector; null: all of them.",
    )
    plain: bool = Field(
        False, description="True tables only (needs every row verbalised): the variant to compare with."
    )
    noise: float = Field(0.3, ge=0, description="Noise on rehearsed vectors, in units of the pool's spread.")
    told: float = Field(
        0.5, ge=0, le=1, description="Share of sequences at the start whose reader is told what to read."
    )
    quiet_lines: int = Field(12, ge=1, description="Lines outside the skill an update, to keep silent on.")
    quiet_tokens: int = Field(32, ge=4, description="Length of such a line.")
    tries: int = Field(24, ge=1, description="Draws of tables for a prompt before it is given up.")


class OptimiserSettings(_Part):
    """AdamW: warm-up, a constant rate until the rehearsal is mastered, cool-down."""

    reader_lr: float = Field(4e-3, gt=0, description="Peak rate of selector and gather heads.")
    projector_lr: float = Field(1e-3, gt=0, description="Peak rate of the trunk of phi.")
    written_lr: float = Field(
        1.5e-2,
        gt=0,
        description="Peak rate of what phi and literals write, relative to the size it has at the start.",
    )
    steering_lr: float = Field(1e-3, gt=0, description="Peak rate of the low-rank updates.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay.")
    warmup: int = Field(5, ge=0, description="Updates of linear warm-up.")
    cool_down: float = Field(
        0.3, ge=0, le=1, description="Share of all updates over which the rate falls at the end, as a cosine."
    )
    floor: float = Field(0.05, ge=0, le=1, description="Final share of the peak rate.")
    mastered: int = Field(
        4,
        ge=0,
        description="Fresh updates in a row without any slip after which the cool-down begins; 0: never before time.",
    )
    clip: float = Field(1.0, gt=0, description="Largest gradient norm.")


class StudentSettings(_Part):
    """Everything about the student side; unknown keys are refused."""

    depth: Depth = Field(
        "executed",
        description="Where the procedure lives: in the reader, which runs the packet's program; or in the "
        "reader's weights, which learn to run it. By default executed, but learned where the settings name another "
        "reader, or steering.",
    )
    reader: ReaderSettings = Field(default_factory=ReaderSettings, description="The concept reader.")
    projector: ProjectorSettings = Field(default_factory=ProjectorSettings, description="phi.")
    steering: SteeringSettings = Field(default_factory=SteeringSettings, description="Low-rank steering.")
    losses: LossSettings = Field(default_factory=LossSettings, description="Weights of the composite loss.")
    rehearsal: RehearsalSettings = Field(default_factory=RehearsalSettings, description="What is rehearsed.")
    optimiser: OptimiserSettings = Field(default_factory=OptimiserSettings, description="How it is optimised.")
    flagged: list[str] = Field(
        default_factory=list,
        description="Concepts to filter: a symbol ('uncle': its rows), or a rule row ('rule_0(a, b)').",
    )

    @model_validator(mode="after")
    def _fits_its_depth(self) -> Self:
        trained = self.reader.kind != "structured" or self.steering.rank > 0
        if trained and self.depth == "executed" and "depth" in self.model_fields_set:
            raise ValueError(
                "depth executed has a reader of its own and trains no steering: set depth to learned for another "
                "reader.kind, or for steering.rank above 0"
            )
        if (trained or "kind" in self.reader.model_fields_set) and "depth" not in self.model_fields_set:
            self.depth = "learned"
        return self

    @property
    def reader_kind(self) -> str:
        """The kind of reader at this depth."""
        return "executed" if self.depth == "executed" else self.reader.kind

    @classmethod
    def from_file(cls, path: str | Path) -> StudentSettings:
        """Reads a YAML file."""
        data = read_yaml_file(path, "the student settings") or {}
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise SpecError(f"{path} does not describe a student side: {explain(error, cls)}") from error
