"""The default source: causal interventions for effects, mean states for vectors."""

from __future__ import annotations

import random
from collections.abc import Sequence

from m2kt.teacher._batches import TokenisedTrace
from m2kt.teacher._edges import Edge, Use
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.sources._base import NOT_MEASURED, EqualWeights

USES_TRIED = 6  # of an edge


class Intervention(EqualWeights):
    """Replaces the symbol that a step reads, wherever it was copied to, and sees whether the step changes."""

    def effects(self, teacher: Teacher, edges: Sequence[Edge], *, seed: int) -> list[float]:
        """The share of replacements that changed the step; -1 where no step read another symbol."""
        rng = random.Random(f"effects/{seed}")
        tried: list[tuple[int, int, TokenisedTrace]] = []  # edge, unit of the step, its answer with the replaced symbol
        for number, edge in enumerate(edges):
            seen = sorted({use.symbol for use in edge.uses if use.symbol is not None})
            for use in edge.uses[:USES_TRIED]:
                others = [symbol for symbol in seen if symbol != use.symbol]
                if use.symbol is not None and others:
                    tried.append((number, use.context.unit, _replaced(teacher, use, rng.choice(others))))
        firsts = [trace.tokens_of_unit[unit][0] - 1 for _, unit, trace in tried]
        chosen = teacher.choices([trace for _, _, trace in tried], "intervening", first_positions=firsts)
        changed: list[list[bool]] = [[] for _ in edges]
        for (number, unit, trace), choice_T in zip(tried, chosen, strict=True):
            changed[number].append(any(choice_T[t - 1] != trace.ids[t] for t in trace.tokens_of_unit[unit]))
        return [sum(members) / len(members) if members else NOT_MEASURED for members in changed]


def _replaced(teacher: Teacher, use: Use, symbol: str) -> TokenisedTrace:
    sample = use.context.sample
    texts = sample.texts
    for unit in use.held:
        texts[unit] = sample.units[unit].lead + symbol
    return teacher.tokenise(texts, sample.n_prompt)
