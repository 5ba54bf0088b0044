"""Causal interrogation: replace one earlier symbol by another value seen there, and see which later steps change.

Values are pooled over all samples that share the masked prefix up to the replaced unit (the pooled support), so an
intervention never shows the teacher a symbol at a place where it has not seen one of its kind. One forward pass
answers for all later steps at once.
"""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from m2kt.models import piece_text
from m2kt.probes import Unit
from m2kt.teacher._ask import Forced, Teacher
from m2kt.teacher._pool import Pool, Sample, Shape

BASES = 6  # base sequences a skeleton
ALTERNATIVES = 2  # other values tried a position
SKELETONS = 8  # commonest skeletons of a template that are interrogated a round


def interrogate(teacher: Teacher, pool: Pool, *, seed: int) -> None:
    """Fills ``causes`` of the trie nodes: shares of interventions that changed the step. Adds to what is known."""
    rng = random.Random(f"interrogate/{seed}")
    base_of: list[tuple[Shape, Sample, Forced]] = []
    for shape in pool.shapes:
        for sample in _bases(shape, rng):
            texts = [u.text for u in sample.units]
            base_of.append((shape, sample, teacher.force(texts, sample.n_prompt)))
    base_choices = teacher.choices([forced for _, _, forced in base_of], "interrogating: base")

    questions: list[Forced] = []
    about: list[tuple[int, int, str]] = []  # base, unit replaced, new symbol
    for index, (shape, sample, _) in enumerate(base_of):
        support = _support(shape, sample)
        for position, unit in enumerate(sample.units[:-1]):
            if unit.symbol is None:
                continue
            others = [v for v in support[position] if v != unit.symbol]
            for value in rng.sample(others, min(ALTERNATIVES, len(others))):
                texts = [u.text for u in sample.units]
                texts[position] = unit.lead + value
                questions.append(teacher.force(texts, sample.n_prompt))
                about.append((index, position, value))
    choices = teacher.choices(questions, "interrogating")
    for (index, position, value), forced, chosen in zip(about, questions, choices, strict=True):
        shape, sample, base = base_of[index]
        for step, node in enumerate(sample.path):
            unit_index = sample.n_prompt + step
            if unit_index <= position:
                continue
            old = [base_choices[index][t - 1] for t in base.tokens_of_unit[unit_index]]
            new = [chosen[t - 1] for t in forced.tokens_of_unit[unit_index]]
            causes = shape.nodes[node].causes
            causes.tried[position] += 1
            if old != new:
                causes.changed[position] += 1
                if _writes(teacher, forced, chosen, unit_index, sample.units[unit_index], value):
                    causes.followed[position] += 1
    for shape in pool.shapes:
        for trie in shape.nodes:
            known = trie.causes
            known.effect = {p: known.changed[p] / n for p, n in known.tried.items()}
            known.follow = {p: known.followed[p] / n for p, n in known.tried.items()}


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
