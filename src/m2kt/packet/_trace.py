"""Rules, and the traces that programs write with them."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field


class Rule(BaseModel):
    """A table that the extraction found in the teacher. Each row is a concept."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="Name of the rule within this packet.")
    arity: int = Field(ge=1, description="Number of arguments.")
    rows: list[tuple[int, ...]] = Field(description="Argument symbol ids, one tuple for each concept.")
    outputs: list[int | None] = Field(
        description="Verbalised output symbol of each row; null: travels as a vector only."
    )
    range: list[int] = Field(description="Symbol ids that this rule writes, over all rows.")
    family: int = Field(ge=0, description="Rules of one family always read the same arguments.")
    offset: int = Field(ge=0, description="Index of the first row among the K concepts.")
    uses: int = Field(default=0, ge=0, description="Leaves of the program that apply the rule.")

    @property
    def concepts(self) -> builtins.range:
        """Indices of its rows among the K concepts."""
        return builtins.range(self.offset, self.offset + len(self.rows))


@runtime_checkable
class HasRules(Protocol):
    """What has rules: a program."""

    @property
    def rules(self) -> Sequence[Rule]:
        """In concept order."""


class OutputLookup(Protocol):
    """The symbol id that rule ``rule`` writes at its row ``row``."""

    def __call__(self, rule: int, row: int) -> int: ...


@dataclass(slots=True)
class TracedUnit:
    """A unit of a trace, with the step that wrote it."""

    text: str
    symbol: int | None
    lead: str = ""
    kind: Literal["prompt", "literal", "copy", "rule"] = "literal"
    rule: int | None = None
    row: int | None = None
    sources: tuple[int, ...] = ()


FailureKind = Literal["row", "branch", "node", "symbol", "length"]


@dataclass(slots=True)
class RolloutFailure:
    """Why a rollout ended before the stop string, in ``state``: what the program lacks."""

    what: FailureKind
    template: int
    state: int
    detail: str = ""


@dataclass(slots=True)
class Trace:
    """A prompt with the completion that the program writes for it."""

    units: list[TracedUnit]
    n_prompt: int
    template: int = 0
    complete: bool = False
    failure: RolloutFailure | None = None
    path: list[int] = field(default_factory=list)  # state of every completion unit
    leaf: list[int] = field(default_factory=list)  # leaf of the state's decision that wrote it

    @property
    def text(self) -> str:
        """Prompt and completion."""
        return "".join(u.text for u in self.units)

    @property
    def completion(self) -> str:
        """Completion with its stop string, if complete."""
        return "".join(u.text for u in self.units[self.n_prompt :])


def verbalised_lookup(program: HasRules) -> OutputLookup:
    """The verbalised outputs. Raises KeyError for a row that is not verbalised."""

    def lookup(rule: int, row: int) -> int:
        output = program.rules[rule].outputs[row]
        if output is None:
            raise KeyError(f"row {row} of {program.rules[rule].name} travels as a vector only")
        return output

    return lookup


def fixed_lookup(outputs: Sequence[int], program: HasRules) -> OutputLookup:
    """``outputs[k]`` for concept k."""
    offsets = [r.offset for r in program.rules]

    def lookup(rule: int, row: int) -> int:
        return int(outputs[offsets[rule] + row])

    return lookup
