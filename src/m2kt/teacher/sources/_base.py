"""The interface of a concept source: how much what a step reads decides it, and how states become concept vectors.

Letters: N contexts, K concepts, D width, C symbols with prototypes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from m2kt.teacher._edges import Edge
from m2kt.teacher._states import Context, record_contexts
from m2kt.teacher._teacher import Teacher

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
NOT_MEASURED = -1.0


class ConceptSource(Protocol):
    """What differs between the values of ``--concepts``. Programs are found in the same way for all of them."""

    def effects(self, teacher: Teacher, edges: Sequence[Edge], *, seed: int) -> list[float]:
        """By edge: how much the unit read decides the step, 0..1; -1 where that cannot be told."""

    def context_weights(self, teacher: Teacher, contexts: Sequence[Context], layer: int) -> Floats:
        """Weights (N,) of contexts in the mean state of their concept."""

    def refine(self, vectors_KD: Floats, outputs_K: Ints, direction_CD: Floats) -> Floats:
        """Final concept vectors (K, D).

        Args:
            direction_CD: directions along which vectors are compared with prototypes.
        """


class EqualWeights:
    """Equal context weights, unchanged vectors."""

    def context_weights(self, teacher: Teacher, contexts: Sequence[Context], layer: int) -> Floats:
        """Equal weights."""
        return np.ones(len(contexts), dtype=np.float32)

    def refine(self, vectors_KD: Floats, outputs_K: Ints, direction_CD: Floats) -> Floats:
        """Unchanged vectors."""
        return vectors_KD


def states_by_edge(
    teacher: Teacher, edges: Sequence[Edge], per_edge: int, layer: int, stage: str
) -> list[tuple[Floats, Ints]]:
    """By edge: the states (N, D) that predict its first steps, and a number for the symbol that each reads (N,)."""
    uses = [[use for use in edge.uses if use.symbol is not None][:per_edge] for edge in edges]
    x_ND = record_contexts(teacher, [use.context for members in uses for use in members], [layer], stage)[:, 0]
    found, start = [], 0
    for members in uses:
        symbols = [use.symbol for use in members]
        number = {symbol: i for i, symbol in enumerate(dict.fromkeys(symbols))}
        label_N = np.array([number[symbol] for symbol in symbols], dtype=np.int32)
        found.append((x_ND[start : start + len(members)], label_N))
        start += len(members)
    return found
