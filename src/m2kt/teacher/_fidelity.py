"""How faithfully the graph repeats the teacher, on prompts that extraction never used."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from m2kt.packet import Graph, GraphExecutor, Trace, fixed_lookup
from m2kt.probes import Prompt
from m2kt.teacher._ask import Teacher, distinct
from m2kt.teacher._pool import Answer


@dataclass
class ShapeFidelity:
    """One template's counts."""

    asked: int = 0
    covered: int = 0
    agreed: int = 0


@dataclass
class Fidelity:
    """Counts over all templates."""

    shapes: dict[int, ShapeFidelity] = field(default_factory=lambda: defaultdict(ShapeFidelity))
    unstopped: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    disagreeing: int = 0
    answers: list[Answer] = field(default_factory=list)

    @property
    def coverage(self) -> float:
        """Share of prompts whose trace the graph writes to its end."""
        asked = sum(s.asked for s in self.shapes.values())
        return sum(s.covered for s in self.shapes.values()) / asked if asked else 0.0

    @property
    def agreement(self) -> float:
        """Share of covered traces that equal the teacher's, letter by letter."""
        covered = sum(s.covered for s in self.shapes.values())
        return sum(s.agreed for s in self.shapes.values()) / covered if covered else 0.0


def roll_all(graph: Graph, outputs: Sequence[int], prompts: Sequence[Prompt]) -> list[Trace]:
    """Roll-outs with the outputs that the teacher was seen to write."""
    roller, table = GraphExecutor(graph), fixed_lookup(outputs, graph)
    return [roller(p, table) for p in prompts]


def compare(
    teacher: Teacher,
    graph: Graph,
    outputs: Sequence[int],
    prompts: Sequence[Prompt],
    stage: str,
    known: Mapping[str, Answer] = MappingProxyType({}),
) -> Fidelity:
    """Rolls the graph out over ``prompts`` and asks the teacher for each of them that is not among the ``known``."""
    traces = {p.text: t for p, t in zip(prompts, roll_all(graph, outputs, prompts), strict=True)}
    answers, unstopped = teacher.answer(distinct(prompts, known), stage)
    found = Fidelity(unstopped=unstopped, answers=answers)
    by_prompt = {**known, **{a.prompt.text: a for a in answers}}
    for prompt in prompts:
        shape = found.shapes[prompt.template]
        shape.asked += 1
        trace, answer = traces[prompt.text], by_prompt.get(prompt.text)
        if not trace.complete:
            lost = trace.failure
            assert lost is not None
            found.missing[f"{graph.templates[prompt.template].template}: {lost.what}: {lost.detail}"] += 1
            continue
        shape.covered += 1
        if answer is not None and answer.completion + graph.stop == trace.completion:
            shape.agreed += 1
        elif answer is not None:
            found.disagreeing += 1
    return found
