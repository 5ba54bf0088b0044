"""The program of a skill: one state for each mask that may have been written last, each with a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from m2kt.probes import MASK, Unit

from ._graph import FailureKind, OutputLookup, Rule, RolloutFailure, Trace, TracedUnit
from ._machine import Stuck, Tape, compile_decision, name_of
from ._pointers import Decision, WriteCopy, WriteLiteral, WriteRule, leaves

START_STATE = ("",)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class State(_Model):
    """What to do behind units of certain masks."""

    after: tuple[str, ...] = Field(description="Masks of the last units; empty: where the answer begins.")
    decision: Decision = Field(description="What comes next.")


class Program(_Model):
    """Symbols, rules, and the states of one skill at every size."""

    symbols: list[str] = Field(description="All symbols; ids are indices.")
    classes: list[int] = Field(description="The class of each symbol; symbols of one slot are of one class.")
    rules: list[Rule] = Field(description="Rules, in concept order.")
    states: list[State] = Field(description="One for each mask that an answer may have behind it.")
    stop: str = Field(description="The stop string: the last unit of every complete trace.")

    @property
    def n_concepts(self) -> int:
        """K, rows of all rules."""
        return sum(len(r.rows) for r in self.rules)

    @property
    def n_leaves(self) -> int:
        """Leaves of all states."""
        return sum(1 for state in self.states for _ in leaves(state.decision))


def state_name(after: Sequence[str]) -> str:
    """A state's name, as pointers refer to it."""
    return "|".join(after)


@dataclass
class ProgramExecutor:
    """Rolls a program out behind prompts of any length."""

    program: Program
    max_units: int = 4096

    def __post_init__(self) -> None:
        self.ids = {s: i for i, s in enumerate(self.program.symbols)}
        self.rows = [{tuple(row): i for i, row in enumerate(rule.rows)} for rule in self.program.rules]
        self.decide = {s.after: compile_decision(s.decision) for s in self.program.states}
        self.longest = max(map(len, self.decide), default=1)
        self.number = {s.after: i for i, s in enumerate(self.program.states)}

    def __call__(self, units: Sequence[Unit], lookup: OutputLookup, template: int = 0) -> Trace:
        """Roll out behind a prompt's units. Does not raise: ``trace.failure`` says what the program lacks."""
        tape = Tape([name_of(u, self.ids) for u in units], len(units), self.program.classes)
        written = [TracedUnit(u.text, self.ids.get(u.symbol or ""), u.lead, "prompt") for u in units]
        trace = Trace(written, len(units), template)
        after = START_STATE
        while True:
            if len(written) > self.max_units:
                return self._failed(trace, "length", f"{self.max_units} units", after)
            state = self.state(after)
            if state is None:
                return self._failed(trace, "node", f"no state behind {after!r}", after)
            decide = self.decide[state]
            try:
                action = decide(tape)
                unit = self.unit(action.leaf, action.places, tape, lookup)
            except Stuck as stuck:
                what: FailureKind = "row" if stuck.what == "row" else "branch"
                return self._failed(trace, what, f"behind {after!r}: {stuck.detail}", after)
            trace.path.append(self.number[state])
            trace.leaf.append(action.number)
            written.append(unit)
            if unit.symbol is None and unit.text == self.program.stop:
                trace.complete = True
                return trace
            tape.names.append(unit.text if unit.symbol is None else unit.symbol)
            if action.places:
                tape.looked[state_name(state)] = tape.looked[None] = action.places
            after = (*after, self.mask(unit))[-self.longest :]

    def state(self, after: tuple[str, ...]) -> tuple[str, ...] | None:
        """The state behind these masks: the one that names most of them."""
        return next((after[i:] for i in range(len(after)) if after[i:] in self.decide), None)

    def mask(self, unit: TracedUnit) -> str:
        """The unit's text, or its lead and the mask of its class."""
        return unit.text if unit.symbol is None else f"{unit.lead}{MASK}{self.program.classes[unit.symbol]}"

    def unit(
        self, leaf: WriteLiteral | WriteCopy | WriteRule, places: tuple[int, ...], tape: Tape, lookup: OutputLookup
    ) -> TracedUnit:
        """The unit that a leaf writes. Raises ``Stuck`` where a rule has no row."""
        if isinstance(leaf, WriteLiteral):
            return TracedUnit(leaf.text, leaf.symbol, leaf.lead, "literal")
        names = [tape.names[p] for p in places]
        if isinstance(leaf, WriteCopy):
            name = names[0]
            if isinstance(name, str):
                raise Stuck("symbol", f"{name!r} is no symbol")
            return TracedUnit(leaf.lead + self.program.symbols[name], name, leaf.lead, "copy", sources=places)
        row = self.rows[leaf.rule].get(tuple(names))  # type: ignore[arg-type]  # structure is in no row
        if row is None:
            raise Stuck("row", f"{self.program.rules[leaf.rule].name} has no row for {names}")
        symbol = lookup(leaf.rule, row)
        text = leaf.lead + self.program.symbols[symbol]
        return TracedUnit(text, symbol, leaf.lead, "rule", leaf.rule, row, places)

    def _failed(self, trace: Trace, what: FailureKind, detail: str, after: tuple[str, ...]) -> Trace:
        trace.failure = RolloutFailure(what, trace.template, self.number.get(after, -1), detail)
        return trace
