"""What a concept source decides: which earlier units are candidates for a step, and how states become vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from m2kt.teacher._ask import Teacher
from m2kt.teacher._pool import Pool
from m2kt.teacher._states import Request

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


class ConceptSource(Protocol):
    """The interface behind ``--concepts``. The explanation of steps is the same for all of them."""

    name: str

    def candidates(self, teacher: Teacher, pool: Pool, *, seed: int) -> None:
        """Fills ``effect`` (and ``follow``, where it can) of every trie node: how much earlier units decide it."""

    def weigh(self, teacher: Teacher, requests: Sequence[Request], layer: int) -> Floats:
        """Weights (N,) with which contexts enter the mean of their concept."""

    def refine(self, vectors_KD: Floats, outputs_K: Ints, direction_CD: Floats) -> Floats:
        """Last word on the vectors, (K, D). What is heard of them is their part along ``direction_CD``, by symbol."""


class Plain:
    """Equal weights, unchanged vectors."""

    def weigh(self, teacher: Teacher, requests: Sequence[Request], layer: int) -> Floats:
        """Equal weights."""
        return np.ones(len(requests), dtype=np.float32)

    def refine(self, vectors_KD: Floats, outputs_K: Ints, direction_CD: Floats) -> Floats:
        """Unchanged."""
        return vectors_KD


def node_requests(pool: Pool, per_node: int) -> list[tuple[int, int, list[Request]]]:
    """A few samples a node: (template, node, requests at the node's step)."""
    found = []
    for shape in pool.shapes:
        for node, trie in enumerate(shape.nodes):
            if (
                len(trie.samples) >= 2
                and len({shape.samples[i].units[trie.depth].text for i in trie.samples}) > 1
            ):
                some = trie.samples[:per_node]
                found.append((shape.template, node, [Request(shape.samples[i], trie.depth) for i in some]))
    return found
