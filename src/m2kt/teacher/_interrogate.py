"""Causal interrogation: replace one earlier symbol by another value seen there, and see which later steps change.

Values are pooled over all samples that share the masked prefix up to the replaced unit (the pooled support), so an
intervention never shows the teacher a symbol at a place where it has not seen one of its kind. One forward pass
answers for all later steps at once.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2kt.models import piece_text
from m2kt.probes import Unit
from m2kt.teacher._ask import Forced, Teacher
from m2kt.teacher._pool import Causes, Pool, Sample, Shape
from m2kt.teacher._shortlist import Reading, apart, shortlist

BASES = 6  # base sequences a skeleton
ALTERNATIVES = 2  # other values tried a position
SKELETONS = 8  # commonest skeletons of a template that are interrogated a round
DEAR = 50_000_000  # parameters from which attention is asked first: below, there is little to save


@dataclass(frozen=True)
class _Base:
    """An answer that is intervened on."""

    shape: Shape
    sample: Sample
    forced: Forced
    values: dict[int, list[str]]  # by unit: symbols that are put in its place


@dataclass(frozen=True)
class _Intervention:
    """A base with one unit replaced, or with several that no step is thought to read together."""

    base: int
    replaced: dict[int, str]  # by unit: the new symbol
    forced: Forced
    behind: int  # the first token that is not as in the base


def interrogate(teacher: Teacher, pool: Pool, *, seed: int) -> None:
    """Fills ``causes`` of the trie nodes: shares of interventions that changed the step. Adds to what is known.

    One pass a unit and value tells of all later steps. Where passes are dear, units share one if the teacher's
    attention says that no step reads two of them; a change that it does not account for is asked about one by one.
    """
    rng = random.Random(f"interrogate/{seed}")
    chosen = [(shape, sample) for shape in pool.shapes for sample in _bases(shape, rng)]
    bases = [_base(teacher, shape, sample, rng) for shape, sample in chosen]
    before = teacher.choices([base.forced for base in bases], "interrogating: base")
    readings = _readings(teacher, bases)

    questions: list[_Intervention] = []
    for index, base in enumerate(bases):
        groups = [[unit] for unit in base.values] if readings is None else apart(base.values, readings[index])
        for group in groups:
            for number in range(ALTERNATIVES):
                replaced = {u: base.values[u][number] for u in group if number < len(base.values[u])}
                if replaced:
                    questions.append(_question(teacher, index, base, replaced))
    while questions:
        after = teacher.choices(
            [q.forced for q in questions], "interrogating", behind=[q.behind for q in questions]
        )
        again: list[_Intervention] = []
        for question, chosen_T in zip(questions, after, strict=True):
            base, reading = bases[question.base], readings[question.base] if readings else {}
            if not _book(teacher, base, before[question.base], question, chosen_T, reading):
                alone = ({unit: value} for unit, value in question.replaced.items())
                again += [_question(teacher, question.base, base, replaced) for replaced in alone]
        questions = again
    for shape in pool.shapes:
        for trie in shape.nodes:
            known = trie.causes
            known.effect = {p: known.changed[p] / n for p, n in known.tried.items()}
            known.follow = {p: known.followed[p] / n for p, n in known.tried.items()}


def _base(teacher: Teacher, shape: Shape, sample: Sample, rng: random.Random) -> _Base:
    support = _support(shape, sample)
    values = {}
    for position, unit in enumerate(sample.units[:-1]):
        if unit.symbol is not None:
            others = [v for v in support[position] if v != unit.symbol]
            values[position] = rng.sample(others, min(ALTERNATIVES, len(others)))
    forced = teacher.force(sample.texts, sample.n_prompt)
    return _Base(shape, sample, forced, values)


def _readings(teacher: Teacher, bases: Sequence[_Base]) -> list[Reading] | None:
    """What steps may have read, where that is worth asking."""
    if not bases or sum(p.numel() for p in teacher.model.parameters()) < DEAR:
        return None
    return shortlist(teacher, [base.forced for base in bases], [list(base.values) for base in bases])


def _question(teacher: Teacher, index: int, base: _Base, replaced: dict[int, str]) -> _Intervention:
    texts = base.sample.texts
    for position, value in replaced.items():
        texts[position] = base.sample.units[position].lead + value
    forced = teacher.force(texts, base.sample.n_prompt)
    first = min(replaced)
    behind = 0 if first < base.sample.n_prompt else forced.tokens_of_unit[first][0]
    return _Intervention(index, replaced, forced, behind)


def _book(
    teacher: Teacher,
    base: _Base,
    before_T: NDArray[np.int32],
    question: _Intervention,
    after_T: NDArray[np.int32],
    reading: Reading,
) -> bool:
    """Counts which later steps changed. False, and nothing counted, where that is none of the replaced units' doing."""
    found: list[tuple[Causes, int, bool, bool]] = []  # of a step: cause, unit, changed, followed
    for step, node in enumerate(base.sample.path):
        index = base.sample.n_prompt + step
        earlier = [unit for unit in question.replaced if unit < index]
        old = [before_T[t - 1] for t in base.forced.tokens_of_unit[index]] if earlier else []
        new = [after_T[t - 1] for t in question.forced.tokens_of_unit[index]] if earlier else []
        listed = (
            earlier if len(question.replaced) == 1 else [u for u in earlier if u in reading.get(index, ())]
        )
        if old != new and not listed:
            return False
        for unit in earlier:
            changed = old != new and unit in listed
            value = question.replaced[unit]
            followed = changed and _writes(
                teacher, question.forced, after_T, index, base.sample.units[index], value
            )
            found.append((base.shape.nodes[node].causes, unit, changed, followed))
    for causes, unit, changed, followed in found:
        causes.tried[unit] += 1
        causes.changed[unit] += changed
        causes.followed[unit] += followed
    return True


def _bases(shape: Shape, rng: random.Random) -> list[Sample]:
    """A few answers of the commonest skeletons that were not yet asked about."""
    by_skeleton: dict[tuple[int, ...], list[Sample]] = defaultdict(list)
    for sample in shape.samples:
        by_skeleton[tuple(sample.path)].append(sample)
    chosen: list[Sample] = []
    count = 0
    for path, samples in sorted(by_skeleton.items(), key=lambda item: len(item[1]), reverse=True):
        causes = shape.nodes[path[-1]].causes
        wanted = min(BASES, len(samples)) - causes.bases
        if wanted > 0 and count < SKELETONS:
            count += 1
            causes.bases += wanted
            chosen += rng.sample(samples, wanted)
    return chosen


def _support(shape: Shape, sample: Sample) -> dict[int, list[str]]:
    """Values seen at each unit among the samples that share the masked prefix up to it."""
    support: dict[int, list[str]] = {}
    root = shape.nodes[0].samples
    for position in range(sample.n_prompt):
        support[position] = sorted(
            {s for i in root if (s := shape.samples[i].units[position].symbol) is not None}
        )
    for step, node in enumerate(sample.path):
        position = sample.n_prompt + step
        here = sample.units[position]
        mates = (shape.samples[i].units[position] for i in shape.nodes[node].samples)
        support[position] = sorted({u.symbol for u in mates if u.symbol is not None and u.lead == here.lead})
    return support


def _writes(
    teacher: Teacher, forced: Forced, chosen: NDArray[np.int32], unit_index: int, unit: Unit, value: str
) -> bool:
    """Whether the changed step now begins to write ``value``: the mark of a copy."""
    if unit.symbol is None:
        return False
    first = forced.content[unit_index][0]
    piece = piece_text(teacher.tokenizer, int(chosen[first - 1])).strip()
    return bool(piece) and value.startswith(piece)
