"""Two programs on one text: what each would do at every unit that a source wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from m2kt.packet import (
    Action,
    OutputLookup,
    Program,
    ProgramExecutor,
    Stuck,
    Tape,
    Trace,
    TracedUnit,
    WriteCopy,
    WriteLiteral,
    WriteRule,
)
from m2kt.probes import ProbeSpec

PROMPTS = 240
"""Prompts of each spec that sources roll out. They show where programs differ; no number is measured on them."""


@dataclass(frozen=True)
class Step:
    """What a program does at a unit, and in which state; no action where it does not say."""

    after: tuple[str, ...] | None
    action: Action | None


@dataclass(frozen=True)
class Rollouts:
    """A source's own texts."""

    prompts: list[str]
    traces: list[Trace]

    def __iter__(self) -> Iterator[tuple[str, Trace]]:
        return iter(zip(self.prompts, self.traces, strict=True))


def roll_out(program: Program, lookup: OutputLookup, spec: ProbeSpec) -> Rollouts:
    """Completed rollouts of a program on prompts of a spec, also skewed ones, in which rare branches are frequent."""
    half = PROMPTS // 2
    drawn = spec.sample("probing", half, seed=0) + spec.sample("probing", half, seed=1, skewed=True)
    prompts = list({prompt.text: prompt for prompt in drawn}.values())
    execute = ProgramExecutor(program)
    pairs = [(prompt.text, execute(prompt, lookup)) for prompt in prompts]
    complete = [(text, trace) for text, trace in pairs if trace.complete]
    return Rollouts([text for text, _ in complete], [trace for _, trace in complete])


def follow(executors: Sequence[ProgramExecutor], trace: Trace) -> Iterator[tuple[TracedUnit, Tape, list[Step]]]:
    """Each unit of an answer, the text before it, and the step of each program there."""
    runs = [executor.begin(trace.units[: trace.n_prompt]) for executor in executors]
    for unit in trace.units[trace.n_prompt :]:
        steps: list[Step] = []
        taken: list[tuple[int, Action] | None] = []
        for executor, run in zip(executors, runs, strict=True):
            state = executor.state(run)
            try:
                taken.append(executor.next(run))
            except Stuck:
                taken.append(None)
            made = taken[-1]
            after = None if state is None else executor.program.states[state].after
            steps.append(Step(after, None if made is None else made[1]))
        yield unit, runs[0].tape, steps
        for executor, run, made in zip(executors, runs, taken, strict=True):
            executor.wrote(run, unit, made)


def writes(action: Action, tape: Tape, symbols: Sequence[str]) -> str | None:
    """The unit that a literal or a copy writes; None for a rule, and for a copy of structure."""
    leaf = action.leaf
    if isinstance(leaf, WriteLiteral):
        return leaf.text
    if isinstance(leaf, WriteCopy):
        name = tape.names[action.places[0]]
        return leaf.lead + symbols[name] if isinstance(name, int) else None
    return None


def arguments(action: Action, tape: Tape) -> tuple[str | int, ...]:
    """What a rule's pointers stand at."""
    assert isinstance(action.leaf, WriteRule)
    return tuple(tape.names[place] for place in action.places)
