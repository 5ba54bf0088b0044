"""The program of a skill: one state for each mask that may have been written last, each with a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from m2kt.errors import PacketError, explain
from m2kt.probes import MASK, Prompt, Segmenter, Unit

from ._json import check_canonical, parse_json
from ._machine import Action, compile_decision
from ._pointers import Decision, WriteCopy, WriteLiteral, WriteRule, leaves
from ._tape import MAX_WORK, Stuck, Tape, name_of, plain
from ._trace import OutputLookup, RolloutFailure, Rule, Trace, TracedUnit

START_STATE = ("",)
MAX_UNITS = 4096  # of a rollout
Granularity = Literal["values", "digits", "letters"]
"""Whether a slot value is one symbol, or its digits are, or its letters too."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class State(_Model):
    """What to do behind units of certain masks."""

    after: tuple[str, ...] = Field(
        description="Masks of the last units; an empty one in front: where the answer begins."
    )
    decision: Decision = Field(description="What comes next.")


class Program(_Model):
    """Symbols, rules, and the states of one skill at every size."""

    symbols: list[str] = Field(description="All symbols; ids are indices.")
    classes: list[int] = Field(description="The class of each symbol; symbols of one slot are of one class.")
    granularity: Granularity = Field(default="values", description="What slot values are cut into.")
    rules: list[Rule] = Field(description="Rules, in concept order.")
    states: list[State] = Field(description="One for each mask that an answer may have behind it.")
    stop: str = Field(
        description="The last unit of every complete trace: the stop string, or U+0004 for a model's own end token."
    )

    @property
    def n_concepts(self) -> int:
        """K, rows of all rules."""
        return sum(len(r.rows) for r in self.rules)

    def first_leaves(self) -> list[int]:
        """By state, the index of its first leaf among the leaves of all states."""
        counts = [sum(1 for _ in leaves(state.decision)) for state in self.states]
        return [end - count for end, count in zip(accumulate(counts), counts, strict=True)]

    def concept(self, unit: TracedUnit) -> int:
        """Index of the concept that wrote a unit of kind 'rule'."""
        assert unit.rule is not None and unit.row is not None
        return self.rules[unit.rule].offset + unit.row

    @property
    def n_leaves(self) -> int:
        """Leaves of all states."""
        return sum(1 for state in self.states for _ in leaves(state.decision))


def parse_program(raw: bytes, where: str) -> Program:
    """Program from its bytes; its consistency is checked by :func:`check_program`."""
    what = f"{where}: program.json"
    data = parse_json(raw, what)
    try:
        program = Program.model_validate(data)
    except (ValidationError, RecursionError) as error:
        reason = explain(error) if isinstance(error, ValidationError) else "it nests too deep"
        raise PacketError(f"{what} is not valid: {reason}") from error
    check_canonical(raw, lambda: program.model_dump(mode="json", by_alias=True), what, may_end=True)
    return program


def state_name(after: Sequence[str]) -> str:
    """A state's name, as pointers refer to it."""
    return "|".join(after)


@dataclass
class Run:
    """A program on its way through one text: what stands there, and the state."""

    tape: Tape
    after: tuple[str, ...] = START_STATE


@dataclass
class _Suffix:
    """States by their masks, the last one first."""

    state: int | None = None
    before: dict[str, _Suffix] = field(default_factory=dict)

    def add(self, after: Sequence[str], state: int) -> None:
        """Files a state."""
        here = self
        for mask in reversed(after):
            here = here.before.setdefault(mask, _Suffix())
        here.state = state

    def find(self, after: Sequence[str]) -> int | None:
        """The state that names most of the last masks."""
        here: _Suffix | None = self
        found = None
        for mask in reversed(after):
            here = here.before.get(mask) if here is not None else None
            if here is None:
                break
            found = found if here.state is None else here.state
        return found


class ProgramExecutor:
    """Runs a program behind prompts of any length.

    ``executor(prompt, lookup)`` rolls out. To follow a text that somebody else writes: ``begin``, then in turn
    ``next`` (what the program would do) and ``wrote`` (what stands there).
    """

    def __init__(self, program: Program, max_units: int = MAX_UNITS) -> None:
        self.program, self.max_units = program, max_units
        self.ids = {s: i for i, s in enumerate(program.symbols)}
        self.rows = [{tuple(row): i for i, row in enumerate(rule.rows)} for rule in program.rules]
        self._decide = [compile_decision(s.decision, program.symbols) for s in program.states]
        self._names = [state_name(s.after) for s in program.states]
        self._longest = max((len(s.after) for s in program.states), default=1)
        self._last = _Suffix()
        for i, state in enumerate(program.states):
            self._last.add(state.after, i)
        self._cut = Segmenter(program.symbols, apart=())

    def __reduce__(self) -> tuple[type[ProgramExecutor], tuple[Program, int]]:
        return type(self), (self.program, self.max_units)  # what it compiles cannot be pickled

    def prompt_units(self, prompt: Prompt) -> list[Unit]:
        """The prompt in the program's units: slot values as they are, the text between them cut like an answer."""
        return prompt_units(prompt, self._cut, self.program.granularity)

    def begin(self, units: Sequence[Unit | TracedUnit]) -> Run:
        """Behind a prompt's units."""
        tape = Tape(n_prompt=len(units), class_S=self.program.classes)
        for unit in units:
            tape.append(self._name(unit), unit.lead)
        return Run(tape)

    def _name(self, unit: Unit | TracedUnit) -> str | int:
        if isinstance(unit, TracedUnit):
            return plain(unit.text) if unit.symbol is None else unit.symbol
        return name_of(unit, self.ids)

    def mask(self, unit: Unit | TracedUnit) -> str:
        """A unit as states name it: its text, or its leading space and the mask of its class."""
        name = self._name(unit)
        return unit.text if isinstance(name, str) else f"{unit.lead}{MASK}{self.program.classes[name]}"

    def state(self, run: Run) -> int | None:
        """The state behind what is written: the one that names most of the last masks; None where there is none."""
        return self._last.find(run.after)

    def next(self, run: Run) -> tuple[int, Action]:
        """The state, and what it comes to. Raises ``Stuck`` where the program does not say."""
        state = self.state(run)
        if state is None:
            raise Stuck("node", f"no state behind {run.after!r}")
        return state, self._decide[state](run.tape)

    def wrote(self, run: Run, unit: TracedUnit | Unit, step: tuple[int, Action] | None) -> None:
        """Go on behind a unit, which need not be the one that ``step`` would write."""
        run.tape.append(self._name(unit), unit.lead)
        if step is not None and step[1].places:
            run.tape.looked[self._names[step[0]]] = run.tape.looked[None] = step[1].places
        run.after = (*run.after, self.mask(unit))[-self._longest :]

    def unit(self, action: Action, tape: Tape, lookup: OutputLookup) -> TracedUnit:
        """The unit that an action writes. Raises ``Stuck`` where a rule has no row."""
        leaf, places = action.leaf, action.places
        if isinstance(leaf, WriteLiteral):
            return TracedUnit(leaf.text, leaf.symbol, leaf.lead, "literal")
        if isinstance(leaf, WriteCopy):
            symbol = self.copied(places, tape)
            return TracedUnit(leaf.lead + self.program.symbols[symbol], symbol, leaf.lead, "copy", sources=places)
        row = self.row(leaf, places, tape)
        symbol = lookup(leaf.rule, row)
        text = leaf.lead + self.program.symbols[symbol]
        return TracedUnit(text, symbol, leaf.lead, "rule", leaf.rule, row, places)

    def copied(self, places: Sequence[int], tape: Tape) -> int:
        """The symbol that a copy repeats. Raises ``Stuck`` where structure stands there."""
        name = tape.names[places[0]]
        if isinstance(name, str):
            raise Stuck("symbol", f"{name!r} is no symbol")
        return name

    def row(self, leaf: WriteRule, places: Sequence[int], tape: Tape) -> int:
        """The row of a rule for what its pointers stand at. Raises ``Stuck`` where it has none."""
        names = [tape.names[place] for place in places]
        row = self.rows[leaf.rule].get(tuple(names))  # type: ignore[arg-type]  # structure is in no row
        if row is None:
            said = ", ".join(self.program.symbols[n] if isinstance(n, int) else repr(n) for n in names)
            raise Stuck("row", f"{self.program.rules[leaf.rule].name} has no row for ({said})")
        return row

    def __call__(self, prompt: Prompt, lookup: OutputLookup) -> Trace:
        """Roll out. Does not raise: where the program lacks something, ``trace.failure`` says what."""
        units = self.prompt_units(prompt)
        run = self.begin(units)
        written = [TracedUnit(u.text, self.ids.get(u.symbol or ""), u.lead, "prompt") for u in units]
        trace = Trace(written, len(units), prompt.template)
        while True:
            state = -1
            try:
                if len(written) > self.max_units or run.tape.work > MAX_WORK:
                    raise Stuck("length", f"{self.max_units} units, or searches past {MAX_WORK}")
                step = self.next(run)
                state = step[0]
                unit = self.unit(step[1], run.tape, lookup)
            except Stuck as stuck:
                detail = f"behind {run.after[-2:]!r}: {stuck.detail}"
                trace.failure = RolloutFailure(stuck.what, trace.template, state, detail)
                return trace
            trace.path.append(state)
            trace.leaf.append(step[1].number)
            written.append(unit)
            if unit.symbol is None and unit.text == self.program.stop:
                trace.complete = True
                return trace
            self.wrote(run, unit, step)


def prompt_units(prompt: Prompt, cut: Segmenter, granularity: Granularity) -> list[Unit]:
    """A prompt in units: slot values, or the parts that the program works on, and the words of the text between."""
    units: list[Unit] = []
    for unit in prompt.units:
        if unit.symbol is None:
            units += cut.cut(unit.text)
        elif _is_apart(unit.symbol, granularity):
            units += [cut.unit(character, "" if i else unit.lead) for i, character in enumerate(unit.symbol)]
        else:
            units.append(unit)
    return units


def finer_values(values: Sequence[str], granularity: Granularity) -> list[str]:
    """Slot values as a granularity's symbols: numbers as digits, or words as letters too."""
    parts: list[str] = []
    for value in values:
        parts += value if _is_apart(value, granularity) else [value]
    return list(dict.fromkeys(parts))


def _is_apart(value: str, granularity: Granularity) -> bool:
    """Whether a slot value is cut into its characters."""
    return (granularity != "values" and value.isdigit()) or (granularity == "letters" and value.isalpha())
