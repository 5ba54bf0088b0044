"""The interface of a concept source: how much earlier units decide a step, and how states become concept vectors.

Letters: N contexts, K concepts, D width, C symbols with prototypes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from m2kt.teacher._corpus import Corpus, TemplateTrie, TrieNode
from m2kt.teacher._states import Context
from m2kt.teacher._teacher import Teacher

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


class ConceptSource(Protocol):
    """What differs between the values of ``--concepts``. Steps are explained in the same way for all of them."""

    def measure_effects(self, teacher: Teacher, corpus: Corpus, *, seed: int) -> None:
        """Set ``causes.effect`` (and ``copy_rate``, where it can) of every trie node, by earlier unit."""

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


class NodeContexts(NamedTuple):
    """A trie node with the contexts of its first samples."""

    trie: TemplateTrie
    node: TrieNode
    contexts: list[Context]

    @property
    def columns_NU(self) -> Ints:
        """Symbols of the units before the node, by context."""
        return self.trie.symbols_NU[self.node.samples[: len(self.contexts)], : self.node.depth]


def contexts_by_node(corpus: Corpus, per_node: int) -> list[NodeContexts]:
    """Contexts of up to ``per_node`` samples of every node whose unit varies."""
    nodes = []
    for trie in corpus.tries:
        for node in trie.nodes:
            if len({trie.samples[i].units[node.depth].text for i in node.samples}) > 1:
                contexts = [Context(trie.samples[i], node.depth) for i in node.samples[:per_node]]
                nodes.append(NodeContexts(trie, node, contexts))
    return nodes
