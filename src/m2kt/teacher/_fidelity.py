"""How closely the program reproduces the teacher, on given prompts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from m2kt.errors import ExtractionError
from m2kt.packet import Program, SizeFidelity
from m2kt.probes import ProbeSpec, Prompt, longer_specs
from m2kt.teacher._oracle import Answer, Oracle
from m2kt.teacher._teacher import unseen
from m2kt.teacher.program import Skill, roll_out_all

PER_SIZE = 24  # rollouts at each size that was not probed


@dataclass
class TemplateCounts:
    """Prompts of one template."""

    prompts: int = 0
    covered: int = 0  # the program writes a complete trace
    agreed: int = 0  # which equals the teacher's answer


@dataclass
class RolloutComparison:
    """The program's traces against the teacher's answers."""

    templates: dict[int, TemplateCounts] = field(default_factory=lambda: defaultdict(TemplateCounts))
    unstopped: int = 0  # teacher answers without the stop string
    failures: Counter[str] = field(default_factory=Counter)  # reasons of incomplete traces
    disagreements: int = 0
    answers: list[Answer] = field(default_factory=list)  # those generated for this comparison

    @property
    def coverage(self) -> float:
        """Share of prompts for which the program writes a complete trace."""
        prompts = sum(t.prompts for t in self.templates.values())
        return sum(t.covered for t in self.templates.values()) / prompts if prompts else 0.0

    @property
    def agreement(self) -> float:
        """Share of complete traces that equal the teacher's answer exactly."""
        covered = sum(t.covered for t in self.templates.values())
        return sum(t.agreed for t in self.templates.values()) / covered if covered else 0.0


def compare_rollouts(
    teacher: Oracle,
    program: Program,
    outputs: Sequence[int],
    prompts: Sequence[Prompt],
    stage: str = "comparing",
    known_answers: Mapping[str, Answer] = MappingProxyType({}),
) -> RolloutComparison:
    """Compare the program's traces with the teacher's answers, which are generated unless already known."""
    traces = {p.text: t for p, t in zip(prompts, roll_out_all(program, outputs, prompts), strict=True)}
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
            comparison.failures[f"{failure.what}: {failure.detail}"] += 1
            continue
        counts.covered += 1
        if answer is not None and answer.completion + program.stop == trace.completion:
            counts.agreed += 1
        elif answer is not None:
            comparison.disagreements += 1
    return comparison


def measure_sizes(skill: Skill, spec: ProbeSpec, *, seed: int) -> list[SizeFidelity]:
    """Sizes up to four times the largest probed one: what the teacher said, and whether the program goes on there."""
    asked = {c.template: c for c in skill.confirmed}
    sizes = []
    for longer in longer_specs(spec):
        text = longer.template_text(0)
        traces = roll_out_all(skill.program, skill.outputs, longer.sample("rehearsal", PER_SIZE, seed=seed))
        if not traces:
            continue
        confirmed = asked.get(text)
        sizes.append(
            SizeFidelity(
                template=text,
                units=max(trace.n_prompt for trace in traces),
                coverage=sum(trace.complete for trace in traces) / len(traces),
                asked=confirmed.asked if confirmed else 0,
                agreed=confirmed.agreed if confirmed else 0,
                confirmed=bool(confirmed and confirmed.trusted),
            )
        )
    return sizes


def refusal(skill: Skill, comparison: RolloutComparison, floor: float) -> ExtractionError:
    """The error of a program that does not reproduce the teacher; it names the steps that resisted."""
    lines = [
        "the teacher's answers could not be condensed faithfully: "
        f"coverage {comparison.coverage:.3f} x agreement {comparison.agreement:.3f} is below {floor}."
    ]
    lines += [f"  no explanation for {state}" for state in sorted(skill.resisted, key=lambda r: -r.rows)[:3]]
    lines += [f"  {count} x {failure}" for failure, count in comparison.failures.most_common(3)]
    if comparison.unstopped:
        lines.append(f"  {comparison.unstopped} answers without the stop string")
    lines.append(
        "  Either the teacher answers these prompts inconsistently, or a step depends on more than pointers, look-ups "
        "by content, counts and tables of a few symbols can say (docs/program.md); check the teacher's accuracy, let "
        "it write its intermediate results, or change the templates."
    )
    return ExtractionError("\n".join(lines))
