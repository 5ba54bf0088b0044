"""Edges of a program: which units its steps read, over all samples and sizes."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from m2kt.teacher._states import Context
from m2kt.teacher.program import Skill, Step

Item = TypeVar("Item")
MAX_USES = 120  # of an edge


@dataclass(frozen=True)
class Use:
    """A step along an edge, in one sample."""

    context: Context  # of the step
    read: int  # the unit that a pointer stands at
    held: tuple[int, ...]  # the units that hold its symbol because one was copied from the other, itself among them

    @property
    def symbol(self) -> str | None:
        """What the unit read holds; None for structure."""
        return self.context.sample.units[self.read].symbol


@dataclass(frozen=True)
class Edge:
    """A pointer of a leaf, with the steps that used it. ``rule`` is -1 for a copy."""

    state: int
    leaf: int
    argument: int
    rule: int
    uses: list[Use]

    @property
    def columns(self) -> tuple[int, int, int, int]:
        """State, leaf, argument, rule."""
        return self.state, self.leaf, self.argument, self.rule


def edges_of(skill: Skill, *, seed: int) -> list[Edge]:
    """All edges, by state, leaf and argument, each with up to ``MAX_USES`` uses of all sizes."""
    rng = random.Random(f"edges/{seed}")
    uses_of: dict[tuple[int, int, int, int], list[Use]] = defaultdict(list)
    for sample, steps in zip(skill.samples, skill.steps, strict=True):
        origin = _origins(sample.n_prompt, steps)
        for index, step in enumerate(steps):
            if step is None:
                continue
            unit = sample.n_prompt + index
            for argument, place in enumerate(step.places):
                held = tuple(u for u in range(unit) if origin[u] == origin[place])
                rule = -1 if step.rule is None else step.rule
                uses_of[step.state, step.leaf, argument, rule].append(Use(Context(sample, unit), place, held))
    return [
        Edge(*columns, spread(uses, lambda use: where(use.context), MAX_USES, rng))
        for columns, uses in sorted(uses_of.items())
    ]


def _origins(n_prompt: int, steps: Sequence[Step | None]) -> list[int]:
    """By unit: the unit that its symbol was copied from in the first place; itself where it was not copied."""
    origin = list(range(n_prompt + len(steps)))
    for index, step in enumerate(steps):
        if step is not None and step.kind == "copy":
            origin[n_prompt + index] = origin[step.places[0]]
    return origin


def where(context: Context) -> tuple[int, int]:
    """The size of the question, and the unit."""
    return context.sample.n_prompt, context.unit


def spread(items: Sequence[Item], key: Callable[[Item], Hashable], n: int, rng: random.Random) -> list[Item]:
    """Up to ``n`` items, from each key in turn: long answers must not crowd out short ones."""
    by_key: dict[Hashable, list[Item]] = defaultdict(list)
    for item in rng.sample(items, len(items)):
        by_key[key(item)].append(item)
    ranked = [(i, k, item) for k, members in by_key.items() for i, item in enumerate(members)]
    return [item for _, _, item in sorted(ranked, key=lambda x: x[:2])[:n]]
