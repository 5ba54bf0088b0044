"""How closely the program reproduces the teacher, on given prompts."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType

from m2kt.errors import ExtractionError
from m2kt.packet import Program, SizeFidelity
from m2kt.probes import ProbeSpec, Prompt, longer_specs
from m2kt.teacher._oracle import Answer, Oracle
from m2kt.teacher._teacher import unseen
from m2kt.teacher.program import Skill, roll_out_all

PER_SIZE = 24  # rollouts at each size that was not probed
FEWEST_WRONG, TIMES_AS_WRONG = 10, 2.5  # prompts that fail with the symbols that a refusal blames, against others
SHOWN_SYMBOLS = 8


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
    right: list[Prompt] = field(default_factory=list)
    wrong: list[Prompt] = field(default_factory=list)

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
            comparison.wrong.append(prompt)
            continue
        counts.covered += 1
        if answer is not None and answer.completion + program.stop == trace.completion:
            counts.agreed += 1
            comparison.right.append(prompt)
        elif answer is not None:
            comparison.disagreements += 1
            comparison.wrong.append(prompt)
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
    if unlearnt := _unlearnt(comparison):
        lines.append(f"  {unlearnt}")
    lines.append(
        "  Either the teacher answers these prompts inconsistently, or a step depends on more than pointers, look-ups "
        "by content, counts and tables of a few symbols can say (docs/program.md); check the teacher's accuracy, let "
        "it write its intermediate results, or change the templates."
    )
    return ExtractionError("\n".join(lines))


def _unlearnt(comparison: RolloutComparison) -> str:
    """Names the few symbols with which far more prompts fail than without, if there are such; else empty."""
    wrong, right = ([_symbols(prompt) for prompt in prompts] for prompts in (comparison.wrong, comparison.right))
    known = set().union(*wrong, *right)
    left_wrong, left_right, bad = wrong, right, list[str]()
    most, said = 0.0, ""
    while left_wrong and 3 * (len(bad) + 1) <= len(known):
        failing, fine = (Counter(chain(*prompts)) for prompts in (left_wrong, left_right))
        bad.append(max(sorted(failing), key=lambda symbol: failing[symbol] / (failing[symbol] + fine[symbol])))
        left_wrong, left_right = ([s for s in prompts if bad[-1] not in s] for prompts in (left_wrong, left_right))
        others, failed = len(left_wrong) + len(left_right), len(wrong) - len(left_wrong)
        having = len(wrong) + len(right) - others
        enough = failed >= FEWEST_WRONG and failed * others >= TIMES_AS_WRONG * len(left_wrong) * having
        told = _information(failed, having, len(left_wrong), others)
        if others and enough and told > most:  # of these lists of symbols the one that tells most about failures
            most, said = told, _blamed(bad, f"{failed} of {having}", f"{len(left_wrong)} of {others}")
    return said


def _information(failed: int, having: int, failed_else: int, others: int) -> float:
    """How much it tells about failure whether a prompt has certain symbols: mutual information times prompts, nats."""
    total, wrong = having + others, failed + failed_else
    cells = [
        (failed, having, wrong),
        (having - failed, having, total - wrong),
        (failed_else, others, wrong),
        (others - failed_else, others, total - wrong),
    ]
    return sum(n * math.log(n * total / (row * column)) for n, row, column in cells if n)


def _blamed(symbols: list[str], failed: str, others: str) -> str:
    named = " or ".join(map(repr, symbols[:SHOWN_SYMBOLS]))
    named += f" or {len(symbols) - SHOWN_SYMBOLS} more" if len(symbols) > SHOWN_SYMBOLS else ""
    return (
        f"{failed} prompts with {named} fail, and {others} others: the teacher seems not to have learnt these symbols; "
        "leave them out of the slots"
    )


def _symbols(prompt: Prompt) -> set[str]:
    return {unit.symbol for unit in prompt.units if unit.symbol is not None}
