"""From a teacher to the program of its skill: ask, explain, ask again where the program fails, and at larger sizes."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from m2kt.errors import ExtractionError
from m2kt.packet import (
    Granularity,
    OutputLookup,
    Program,
    ProgramExecutor,
    Stuck,
    Trace,
    WriteCopy,
    WriteLiteral,
    WriteRule,
    finer_values,
    fixed_lookup,
)
from m2kt.probes import ProbeSpec, Prompt, longer_specs
from m2kt.teacher._config import ExtractionConfig
from m2kt.teacher._oracle import Answer, Oracle
from m2kt.teacher.program._cut import Cutter, Sample
from m2kt.teacher.program._induce import Induced, Induction, Resisted
from m2kt.teacher.program._traces import Traces

PER_LONGER_SIZE = 24  # prompts asked of each size that was not probed
SCOUTED_LONGER = 96  # prompts of each, of which those are asked behind which the program does not come to an end
GRANULARITIES: tuple[Granularity, ...] = ("values", "digits", "letters")
FACT_REPEATS = 12
MAX_SCOUTS = 5  # batches of new prompts of one round
GOOD = 0.99  # share of answers from which on nothing finer is tried


@dataclass(frozen=True)
class Step:
    """What wrote a unit of an answer: the state and its leaf, and where the leaf looked (indices of units)."""

    state: int
    leaf: int
    kind: Literal["literal", "copy", "rule"]
    rule: int | None
    row: int | None
    places: tuple[int, ...]


@dataclass(frozen=True)
class Round:
    """Counts of one round of completion."""

    number: int
    uncovered_rate: float
    """Share of new prompts behind which the program does not come to an end."""
    checked: int
    """Rollouts compared with the teacher."""
    disagreements: int

    @property
    def converged(self) -> bool:
        """Every rollout ended, and the teacher agreed with those compared."""
        return self.uncovered_rate == 0 and self.disagreements == 0


@dataclass(frozen=True)
class Confirmed:
    """A size that was not probed: what the teacher said there."""

    template: str
    units: int
    """Units of its prompts."""
    asked: int
    agreed: int
    trusted: bool
    """The program accounts for the teacher's answers there; False: the teacher breaks, or writes another way."""


@dataclass
class Skill:
    """A program, with the answers that it was read from."""

    program: Program
    outputs: list[int]
    """By concept: the symbol that the teacher was seen to write."""
    samples: list[Sample]
    steps: list[list[Step | None]]
    """By sample and unit of its answer; None where the program writes something else."""
    resisted: list[Resisted]
    rounds: list[Round] = field(default_factory=list)
    confirmed: list[Confirmed] = field(default_factory=list)


Progress = Callable[[str, int, int], None]


def program_of(
    oracle: Oracle,
    spec: ProbeSpec,
    config: ExtractionConfig,
    *,
    reserved: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Skill:
    """The program of a teacher's skill.

    Args:
        oracle: the teacher.
        reserved: texts of prompts that are kept for measurements.
        progress: called with (stage, done, total).

    Raises:
        ExtractionError: no prompts, or too many answers without the stop string.
    """
    return _Learner(oracle, spec, config, reserved, progress or (lambda stage, done, total: None)).learn()


class _Learner:
    """One extraction."""

    def __init__(
        self,
        oracle: Oracle,
        spec: ProbeSpec,
        config: ExtractionConfig,
        reserved: frozenset[str],
        progress: Progress,
    ) -> None:
        self.oracle, self.spec, self.config = oracle, spec, config
        self.reserved, self.slips, self.progress = reserved, config.slips, progress
        self.answers: dict[str, Answer] = {}
        self.cutter = Cutter(spec, "values")
        # not tried yet; of those with the same symbols the coarsest
        alike = {tuple(finer_values(spec.values, g)): g for g in reversed(GRANULARITIES)}
        self.finer: list[Granularity] = list(alike.values())[::-1]
        self.samples: list[Sample] = []
        self.induced: Induced | None = None
        self.rounds: list[Round] = []
        self.confirmed: list[Confirmed] = []

    def learn(self) -> Skill:
        """Probe, explain, confirm at larger sizes, complete."""
        self._probe()
        self._explain_at_best()
        self._confirm()
        for number in range(1, self.config.rounds + 1):
            self.rounds.append(self._complete(number))
            if self.rounds[-1].converged:
                break
        return self._skill()

    # -- asking -----------------------------------------------------------------------------------------------------
    def _probe(self) -> None:
        spec, n = self.spec, self.config.probes_per_template * self.spec.n_templates
        prompts = self._new_prompts(spec, n, n // 2, self.config.seed)
        answers, unstopped = self.oracle.answer(prompts, "probing")
        if unstopped > self.config.unstopped * len(prompts):
            raise ExtractionError(
                f"expected answers that end with the stop string {spec.stop!r}, got {unstopped} of {len(prompts)} "
                f"without it within {spec.answer_tokens} tokens; use templates that the teacher was trained on, check "
                "stop and max_new_tokens in the spec, or shorten the templates"
            )
        if not answers:
            raise ExtractionError("expected prompts in the spec's probing split, got none; give its slots more values")
        self._add(answers)

    def _new_prompts(self, spec: ProbeSpec, n: int, n_skewed: int, seed: int) -> list[Prompt]:
        prompts = spec.sample("probing", n, seed=seed)
        return self._unseen(prompts + spec.sample("probing", n_skewed, seed=seed, skewed=True))

    def _unseen(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        fresh = {p.text: p for p in prompts if p.text not in self.answers and p.text not in self.reserved}
        return list(fresh.values())

    def _add(self, answers: Sequence[Answer]) -> None:
        self.answers.update({answer.prompt.text: answer for answer in answers})

    # -- explaining -------------------------------------------------------------------------------------------------
    def _explain(self, cutter: Cutter, known: Program | None = None) -> tuple[list[Sample], Induced]:
        samples = cutter.cut_all(list(self.answers.values()))
        symbols = cutter.symbols
        if known is not None and known.symbols != symbols:
            known = None
        # A fact is a row of its own, which no other prompt says again: it is believed as it is.
        shown = samples * FACT_REPEATS if self.spec.facts else samples
        traces = Traces([s.units for s in shown], [s.n_prompt for s in shown], symbols, cutter.classes(samples))
        if known is not None and known.classes != traces.class_S.tolist():
            known = None
        gc.freeze()  # a search makes no garbage that refers to the traces: scanning them takes a sixth of its time
        try:
            induced = Induction(traces, self.spec.end, self.slips, self.config.seed).run(known)
        finally:
            gc.unfreeze()
        induced.program.granularity = cutter.granularity
        return samples, induced

    def _explain_at_best(self, share: float = -1.0) -> None:
        """Slot values as they are; where that does not account for the answers, their digits, then their letters.

        Args:
            share: of the answers that are accounted for so far.
        """
        while self.finer and share < GOOD - self.slips:
            cutter = Cutter(self.spec, self.finer.pop(0))
            samples, induced = self._explain(cutter)
            reached = self._agreement(induced, list(self.answers.values()))
            if reached > share:
                share, self.cutter, self.samples, self.induced = reached, cutter, samples, induced

    def _refit(self, *, finer: bool = True) -> None:
        """Explain again; states that still account for everything stay.

        Args:
            finer: whether to try finer symbols if that fails.
        """
        assert self.induced is not None
        self.samples, self.induced = self._explain(self.cutter, self.induced.program)
        if finer and self.finer:
            self._explain_at_best(self._agreement(self.induced, list(self.answers.values())))

    def _agreement(self, induced: Induced, answers: Sequence[Answer]) -> float:
        return self._agreed(induced, answers) / max(1, len(answers))

    def _agreed(self, induced: Induced, answers: Sequence[Answer]) -> int:
        """How many of the answers the program writes to the letter."""
        traces = roll_out_all(induced.program, induced.outputs, [a.prompt for a in answers])
        return sum(self._is_written(a, t) for a, t in zip(answers, traces, strict=True))

    def _is_written(self, answer: Answer, trace: Trace) -> bool:
        return trace.complete and trace.completion == answer.completion + self.spec.end

    # -- larger sizes -----------------------------------------------------------------------------------------------
    def _confirm(self) -> None:
        """Ask at sizes that were not probed. Where the teacher disagrees, its answers join, if all can be explained."""
        unseen = False  # whether answers joined that no refit has seen
        for spec in longer_specs(self.spec):
            prompts = self._new_prompts(spec, PER_LONGER_SIZE, PER_LONGER_SIZE // 3, self.config.seed)
            answers = self._answers_if_short(prompts)
            if len(answers) < max(4, 0.5 * len(prompts)):
                break
            assert self.induced is not None
            agreed = self._agreed(self.induced, answers)
            trusted = agreed == len(answers)
            if trusted:
                self._add(answers)
                unseen = True
            else:
                agreed, trusted = self._learn_from(answers, agreed)
                unseen = unseen and not trusted
            n_units = self.cutter.cut(answers[0]).n_prompt
            self.confirmed.append(Confirmed(spec.template_text(0), n_units, len(answers), agreed, trusted))
            if not trusted:
                break
            unseen = not self._fill(spec) and unseen
        if unseen:
            self._refit()

    def _fill(self, spec: ProbeSpec) -> bool:
        """Ask about what the program has not seen at a size where it holds: rows of tables, numbers of things.

        Returns:
            Whether answers joined, and all were explained again.
        """
        n = SCOUTED_LONGER
        stuck = self._rolled_out(self._new_prompts(spec, n, n // 3, self.config.seed + 1))[1]
        answers = self._answers_if_short(stuck[:PER_LONGER_SIZE])
        return bool(answers) and self._learn_from(answers, 0)[1]

    def _answers_if_short(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """The teacher's answers; none where the prompts exceed its context."""
        try:
            return self.oracle.answer(prompts, "asking at a size that was not probed")[0]
        except ExtractionError:
            return []

    def _learn_from(self, answers: Sequence[Answer], agreed: int) -> tuple[int, bool]:
        """Explain with the new answers; without them where the old or the new ones are then not accounted for."""
        before = dict(self.answers)
        kept = self.samples, self.induced, self.cutter
        self._add(answers)
        self.cutter = Cutter(self.spec, self.cutter.granularity, self.cutter)
        self._refit(finer=False)  # a teacher that breaks at this size is no reason to look at its letters
        assert self.induced is not None
        now = self._agreed(self.induced, answers)
        old = list(before.values())
        if now >= GOOD * len(answers) and self._agreement(self.induced, old) >= GOOD - self.slips:
            return now, True
        self.answers = before
        self.samples, self.induced, self.cutter = kept
        return agreed, False

    # -- completing -------------------------------------------------------------------------------------------------
    def _complete(self, number: int) -> Round:
        """Roll out new prompts; ask the teacher those that do not end, and some of the others."""
        config, spec = self.config, self.spec
        assert self.induced is not None
        seed, limit = config.seed + 1000 * number, config.checked_per_template * spec.n_templates
        covered, uncovered = self._scout(seed)
        rate = len(uncovered) / max(1, len(covered) + len(uncovered))
        for more in range(1, MAX_SCOUTS):  # rolling out is cheap: what is rare is searched for
            if 0 < len(uncovered) < limit:
                uncovered += [p for p in self._scout(seed + more)[1] if p not in uncovered]
        rng = np.random.default_rng(seed)
        # Rare ways through the program are checked first: a wrong test shows there.
        ways = [frozenset(zip(t.path, t.leaf, strict=True)) for _, t in covered]
        frequency = Counter(ways)
        order = sorted(range(len(covered)), key=lambda i: (frequency[ways[i]] * rng.random(), i))[:limit]
        checked = [covered[i] for i in order]
        answers, _ = self.oracle.answer([p for p, _ in checked], f"checking, round {number}")
        said = {p.text: t for p, t in checked}
        wrong = [a for a in answers if not self._is_written(a, said[a.prompt.text])]
        sampled = [uncovered[i] for i in rng.permutation(len(uncovered))[:limit].tolist()]
        new, _ = self.oracle.answer(sampled, f"completing, round {number}") if sampled else ([], 0)
        # Agreeing answers join too: disagreements alone would overstate the teacher's slips.
        if new or wrong:
            self._add([*new, *(answers if wrong else [])])
            self._refit()
        return Round(number, rate, len(checked), len(wrong))

    def _scout(self, seed: int) -> tuple[list[tuple[Prompt, Trace]], list[Prompt]]:
        """New prompts of the probed sizes, rolled out."""
        n = self.config.scouted_per_template * self.spec.n_templates
        return self._rolled_out(self._new_prompts(self.spec, n, n // 2, seed))

    def _rolled_out(self, prompts: Sequence[Prompt]) -> tuple[list[tuple[Prompt, Trace]], list[Prompt]]:
        """Prompts behind which the program comes to an end, and the others."""
        assert self.induced is not None
        traces = roll_out_all(self.induced.program, self.induced.outputs, prompts)
        both = list(zip(prompts, traces, strict=True))
        return [(p, t) for p, t in both if t.complete], [p for p, t in both if not t.complete]

    # -- the result -------------------------------------------------------------------------------------------------
    def _skill(self) -> Skill:
        assert self.induced is not None
        program = self.induced.program
        executor = ProgramExecutor(program)
        lookup = fixed_lookup(self.induced.outputs, program)
        steps = [replay(executor, sample, lookup) for sample in self.samples]
        induced = self.induced
        return Skill(program, induced.outputs, self.samples, steps, induced.resisted, self.rounds, self.confirmed)


def roll_out_all(program: Program, outputs: Sequence[int], prompts: Sequence[Prompt]) -> list[Trace]:
    """The program's traces with the observed outputs of its rules."""
    executor, lookup = ProgramExecutor(program), fixed_lookup(outputs, program)
    return [executor(prompt, lookup) for prompt in prompts]


def replay(executor: ProgramExecutor, sample: Sample, lookup: OutputLookup) -> list[Step | None]:
    """What the program would do at each unit of an answer, given all units before; None where it differs."""
    run = executor.begin(sample.units[: sample.n_prompt])
    steps: list[Step | None] = []
    for unit in sample.units[sample.n_prompt :]:
        step, done = None, None
        try:
            step = executor.next(run)
            written = executor.unit(step[1], run.tape, lookup)
            if written.text == unit.text:
                leaf = step[1].leaf
                kind: Literal["literal", "copy", "rule"] = (
                    "literal" if isinstance(leaf, WriteLiteral) else "copy" if isinstance(leaf, WriteCopy) else "rule"
                )
                rule = leaf.rule if isinstance(leaf, WriteRule) else None
                done = Step(step[0], step[1].number, kind, rule, written.row, step[1].places)
        except Stuck:
            pass
        steps.append(done)
        executor.wrote(run, unit, step)
    return steps
