"""What a program can write: every leaf of every state met by some prompt, as far as one can be found.

Random prompts of all splits and sizes come first, from a seed that the packet's author does not know. For a leaf that
none of them meets, prompts that reach its state are changed, symbol by symbol, until the tests before it find what
leads to it: a guard on symbols of the question cannot hide.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from m2kt.probes import ProbeSpec, Prompt, Template, longer_specs

from ._describe import read_outputs
from ._machine import Action, compile_pointer, compile_question
from ._packet import Packet
from ._pointers import Decision, Equal, Leaf, Relation, Test, Unit, asked_pointers
from ._program import ProgramExecutor, Run
from ._tape import Tape, plain
from ._trace import Trace, fixed_lookup

PROMPTS = 300
"""Drawn of each split, once evenly and once with few symbols."""
SHARE_OF_A_SIZE = 8
"""One in so many is drawn of each size beyond the spec's."""
BASES = 24
"""Prompts that are changed to meet a leaf."""
CHANGES = 16
"""Changes of one prompt: a guard may test as many of its symbols."""
KEPT = 3
"""Prompts that are kept for a leaf or a row."""

Branch = tuple[Test, int]
"""A test and the case that is taken; -1: otherwise."""


@dataclass
class LeafUse:
    """One leaf of a state's decision."""

    state: int
    number: int
    leaf: Leaf
    guards: tuple[Branch, ...]
    """The tests before it."""
    met: int = 0
    """Times that evenly drawn prompts came to it."""
    prompts: list[Prompt] = field(default_factory=list)
    """Some prompts that meet it, the first ones found."""


@dataclass
class Exploration:
    """Leaves in order of states, and all prompts that were run with their traces."""

    leaves: list[LeafUse]
    traces: dict[str, tuple[Prompt, Trace]]
    """By the prompt's text."""
    probed: set[str]
    """Texts of the prompts that have a size for which the program was extracted."""
    rows: dict[tuple[int, int], list[Prompt]]
    """Prompts by rule and row."""

    _roll_out: Callable[[Prompt], Trace]

    def rolled(self, prompt: Prompt) -> Trace:
        """The trace of a prompt, which need not be among those that were run."""
        known = self.traces.get(prompt.text)
        return self._roll_out(prompt) if known is None else known[1]

    def arrivals(self, state: int) -> int:
        """Times that evenly drawn prompts came to a state."""
        return sum(use.met for use in self.leaves if use.state == state)

    def covering(self) -> list[Prompt]:
        """Prompts that meet every leaf and row that was met at all, each some times."""
        chosen: dict[str, Prompt] = {}
        for prompts in [*(use.prompts for use in self.leaves), *self.rows.values()]:
            chosen |= {prompt.text: prompt for prompt in prompts}
        return list(chosen.values())


def explore(packet: Packet, seed: int, prompts: int = PROMPTS) -> Exploration:
    """Run a packet's program on prompts that together meet what can be met.

    Args:
        seed: not known to the packet's author, or they could spare these prompts.
        prompts: drawn of each split.
    """
    return _Explorer(packet, seed).run(prompts)


class _Watcher(ProgramExecutor):
    """Keeps what stands there whenever a state is reached."""

    watched: int | None = None

    def next(self, run: Run) -> tuple[int, Action]:
        if self.watched is not None and self.state(run) == self.watched:
            self.seen.append(run.tape.copy())
        return super().next(run)

    def watch(self, state: int | None) -> None:
        """Begin to keep the tapes at a state."""
        self.watched = state
        self.seen: list[Tape] = []


class _Explorer:
    def __init__(self, packet: Packet, seed: int) -> None:
        self._packet, self._program, self._spec = packet, packet.program, packet.spec
        self._random = random.Random(f"{seed}/{packet.digest}")
        self._execute = _Watcher(packet.program)
        outputs = [-1 if output is None else output for output in read_outputs(packet)]
        self._lookup = fixed_lookup(outputs, packet.program)
        self._leaves = [
            LeafUse(i, number, leaf, guards)
            for i, state in enumerate(packet.program.states)
            for number, (leaf, guards) in enumerate(guarded_leaves(state.decision))
        ]
        self._by_name = {(use.state, use.number): use for use in self._leaves}
        self._found = Exploration(self._leaves, {}, set(), {}, lambda prompt: self._execute(prompt, self._lookup))
        self._templates = _templates(packet.spec)

    def run(self, prompts: int) -> Exploration:
        seed = self._random.randrange(1 << 62)
        for spec in (self._spec, *longer_specs(self._spec)):
            n = prompts if spec is self._spec else 1 + prompts // SHARE_OF_A_SIZE
            for split in ("probing", "rehearsal", "evaluation"):
                for skewed in (False, True):
                    drawn = spec.sample(split, n, seed=seed, skewed=skewed)
                    self._run_all(drawn, evenly=not skewed)
                    self._found.probed.update(prompt.text for prompt in drawn if spec is self._spec)
        self._run_all(self._spec.sample("evaluation", prompts, seed=seed, held_out=True), evenly=True)
        for use in self._leaves:
            if not use.prompts:
                self._search(use)
        return self._found

    def _run_all(self, prompts: Sequence[Prompt], evenly: bool) -> None:
        for prompt in prompts:
            self._run(prompt, evenly)

    def _run(self, prompt: Prompt, evenly: bool = False) -> Trace:
        known = self._found.traces.get(prompt.text)
        if known is not None:
            return known[1]
        trace = self._execute(prompt, self._lookup)
        self._found.traces[prompt.text] = (prompt, trace)
        for state, number in zip(trace.path, trace.leaf, strict=True):
            use = self._by_name[state, number]
            use.met += evenly
            if len(use.prompts) < KEPT and prompt not in use.prompts:
                use.prompts.append(prompt)
        for unit in trace.units[trace.n_prompt :]:
            if unit.rule is not None and unit.row is not None:
                kept = self._found.rows.setdefault((unit.rule, unit.row), [])
                if len(kept) < KEPT and prompt not in kept:
                    kept.append(prompt)
        return trace

    def _search(self, use: LeafUse) -> None:
        """Change prompts that reach the leaf's state until one meets it."""
        bases = [p for other in self._leaves if other.state == use.state for p in other.prompts][:BASES]
        if not bases:  # a state that nothing reaches: any prompt may be the one
            every = [prompt for prompt, _ in self._found.traces.values()]
            bases = self._random.sample(every, min(BASES, len(every)))
        for prompt in bases:
            for _ in range(CHANGES):
                changed = self._nearer(prompt, use)
                if changed is None:
                    break
                prompt = changed
                self._run(prompt)
                if use.prompts:
                    return

    def _nearer(self, prompt: Prompt, use: LeafUse) -> Prompt | None:
        """A prompt for which one more test before a leaf finds what leads to it; None where no change is known."""
        self._execute.watch(use.state)
        self._execute(prompt, self._lookup)
        tapes = self._execute.seen
        self._execute.watch(None)
        self._random.shuffle(tapes)
        for tape in tapes[:4]:
            for test, case in use.guards:
                if _taken(test, compile_question(test.ask)(tape)) == case:
                    continue
                changes = self._changes(test, case, tape)
                changed = self._changed(prompt, {p: s for p, s in changes.items() if p < tape.n_prompt})
                if changed is not None and changed.text != prompt.text:
                    return changed
                break
        return None

    def _changes(self, test: Test, case: int, tape: Tape) -> dict[int, int]:
        """Symbols by place, with which a test would find what leads to a case."""
        places = [compile_pointer(pointer)(tape) for pointer in asked_pointers(test.ask)]
        if any(place is None or place >= len(tape.names) for place in places):
            return {}
        at = [place for place in places if place is not None]
        listed = [value for other in test.cases for value in other.values]
        symbols = range(len(self._program.symbols))
        match test.ask:
            case Unit():
                wanted = [v for v in test.cases[case].values if type(v) is int] if case >= 0 else []
                wanted = wanted if case >= 0 else [s for s in symbols if s not in listed]
                return {at[0]: self._random.choice(wanted)} if wanted else {}
            case Equal():
                is_equal = True in (
                    test.cases[case].values if case >= 0 else [v for v in (True, False) if v not in listed]
                )
                other = tape.names[at[1]]
                if type(other) is not int:
                    return {}
                unlike = [s for s in symbols if s != other and self._program.classes[s] == self._program.classes[other]]
                return {at[0]: other if is_equal else self._random.choice(unlike or [other])}
            case Relation(rows=rows, finds=finds):
                found = test.cases[case].values if case >= 0 else [f for f in set(finds) if f not in listed]
                fitting = [row for row, find in zip(rows, finds, strict=True) if find in found]
                return dict(zip(at, self._random.choice(fitting), strict=True)) if fitting else {}
            case _:
                return {}

    def _changed(self, prompt: Prompt, changes: dict[int, int]) -> Prompt | None:
        """The prompt with other slot values at some of the program's units; None where that is no prompt."""
        text, place = "", 0
        for unit in prompt.units:
            width = len(self._execute.prompt_units(Prompt("", prompt.template, prompt.held_out, (unit,))))
            value = unit.text
            if unit.symbol is not None and width == 1 and place in changes:
                value = unit.lead + self._program.symbols[changes[place]]
            text, place = text + value, place + width
        if not changes:
            return None
        for number, (template, index, held_out) in enumerate(self._templates):
            read = template.read(text, template=index, held_out=held_out)
            if read is not None:
                if number < self._spec.n_templates:
                    self._found.probed.add(text)
                return read
        return None


def guarded_leaves(decision: Decision, guards: tuple[Branch, ...] = ()) -> Iterator[tuple[Leaf, tuple[Branch, ...]]]:
    """The leaves of a decision with the tests before each, in the order of their numbers."""
    if not isinstance(decision, Test):
        yield decision, guards
        return
    for i, case in enumerate(decision.cases):
        yield from guarded_leaves(case.then, (*guards, (decision, i)))
    if decision.otherwise is not None:
        yield from guarded_leaves(decision.otherwise, (*guards, (decision, -1)))


def _taken(test: Test, value: object) -> int | None:
    """The case that a value leads to; -1: otherwise; None: the program fails."""
    for i, case in enumerate(test.cases):
        if any(type(v) is type(value) and (plain(v) if isinstance(v, str) else v) == value for v in case.values):
            return i
    return None if test.otherwise is None else -1


def _templates(spec: ProbeSpec) -> list[tuple[Template, int, bool]]:
    slots = {name: slot.values for name, slot in spec.slots.items()}
    probed = [(Template(spec.template_text(i), slots), i, False) for i in range(spec.n_templates)]
    held_out = [(Template(spec.template_text(i, True), slots), i, True) for i in range(len(spec.held_out))]
    return [*probed, *held_out, *((Template(s.template_text(0), slots), 0, False) for s in longer_specs(spec))]
