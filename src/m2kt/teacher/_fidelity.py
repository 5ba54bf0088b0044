"""How closely the graph reproduces the teacher, on given prompts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from m2kt.packet import ProgramExecutor, Trace, fixed_lookup
from m2kt.packet._convert import convert
from m2kt.packet._format1 import Graph
from m2kt.probes import ProbeSpec, Prompt
from m2kt.teacher._corpus import Answer
from m2kt.teacher._teacher import Teacher, unseen


@dataclass
class TemplateCounts:
    """Prompts of one template."""

    prompts: int = 0
    covered: int = 0  # the graph writes a complete trace
    agreed: int = 0  # which equals the teacher's answer


@dataclass
class RolloutComparison:
    """The graph's traces against the teacher's answers."""

    templates: dict[int, TemplateCounts] = field(default_factory=lambda: defaultdict(TemplateCounts))
    unstopped: int = 0  # teacher answers without the stop string
    failures: Counter[str] = field(default_factory=Counter)  # reasons of incomplete traces
    disagreements: int = 0
    answers: list[Answer] = field(default_factory=list)  # those generated for this comparison

    @property
    def coverage(self) -> float:
        """Share of prompts for which the graph writes a complete trace."""
        prompts = sum(t.prompts for t in self.templates.values())
        return sum(t.covered for t in self.templates.values()) / prompts if prompts else 0.0

    @property
    def agreement(self) -> float:
        """Share of complete traces that equal the teacher's answer exactly."""
        covered = sum(t.covered for t in self.templates.values())
        return sum(t.agreed for t in self.templates.values()) / covered if covered else 0.0


def roll_out_all(graph: Graph, spec: ProbeSpec, outputs: Sequence[int], prompts: Sequence[Prompt]) -> list[Trace]:
    """The graph's traces with the observed rule outputs."""
    program = convert(graph, spec).program
    executor, lookup = ProgramExecutor(program), fixed_lookup(outputs, program)
    return [executor(p, lookup) for p in prompts]


def compare_rollouts(
    teacher: Teacher,
    graph: Graph,
    outputs: Sequence[int],
    prompts: Sequence[Prompt],
    stage: str,
    known_answers: Mapping[str, Answer] = MappingProxyType({}),
) -> RolloutComparison:
    """Compare the graph's traces with the teacher's answers, which are generated unless already known."""
    traces = {p.text: t for p, t in zip(prompts, roll_out_all(graph, teacher.spec, outputs, prompts), strict=True)}
    answers, unstopped = teacher.answer(unseen(prompts, known_answers), stage)
    comparison = RolloutComparison(unstopped=unstopped, answers=answers)
    answer_of = {**known_answers, **{a.prompt.text: a for a in answers}}
    for prompt in prompts:
        counts = comparison.templates[prompt.template]
        counts.prompts += 1
        trace, answer = traces[prompt.text], answer_of.get(prompt.text)
        if not trace.complete:
            failure = trace.failure
            assert failure is not None
            template = graph.templates[prompt.template].template
            comparison.failures[f"{template}: {failure.what}: {failure.detail}"] += 1
            continue
        counts.covered += 1
        if answer is not None and answer.completion + graph.stop == trace.completion:
            counts.agreed += 1
        elif answer is not None:
            comparison.disagreements += 1
    return comparison
