"""Reading a packet's vectors through its own symbol states: what does each concept write?

The symbol states (the teacher about to copy a symbol) label the teacher's space. A ridge probe fitted on them alone
names the output of every concept vector. Legend: N states, D width, C classes, K concepts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m2kt.packet._graph import Graph

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


class RidgeProbe:
    """One-against-all ridge classifier on standardised states."""

    def __init__(self, x_ND: Floats, y_N: Ints, penalty: float = 1e-2) -> None:
        self.mean_D = x_ND.mean(axis=0)
        self.scale_D = x_ND.std(axis=0) + 1e-6
        z = self._standardise(x_ND)
        self.classes = np.unique(y_N)
        target = (y_N[:, None] == self.classes[None]).astype(np.float64)
        self.bias_C = target.mean(axis=0)
        gram = z.T @ z + penalty * len(z) * np.eye(z.shape[1])
        self.weight_DC = np.linalg.solve(gram, z.T @ (target - self.bias_C))

    def _standardise(self, x_ND: Floats) -> NDArray[np.float64]:
        z: NDArray[np.float64] = ((x_ND - self.mean_D) / self.scale_D).astype(np.float64)
        return z

    def scores(self, x_ND: Floats) -> NDArray[np.float64]:
        """(N, C), near 1 for the class that a state belongs to."""
        found: NDArray[np.float64] = self._standardise(x_ND) @ self.weight_DC + self.bias_C
        return found

    def predict(self, x_ND: Floats) -> Ints:
        """The class of each state."""
        best: Ints = self.classes[self.scores(x_ND).argmax(axis=1)].astype(np.int32)
        return best


def symbol_scores(concepts: dict[str, NDArray[np.generic]]) -> tuple[NDArray[np.float64], Ints]:
    """How much each concept vector looks like each symbol's states, (K, C), and the C symbols there are states of."""
    probe = RidgeProbe(
        np.asarray(concepts["pool_PD"], dtype=np.float32),
        np.asarray(concepts["pool_symbol_P"], dtype=np.int32),
    )
    return probe.scores(np.asarray(concepts["vectors_KD"], dtype=np.float32)), probe.classes


def decode_outputs(graph: Graph, concepts: dict[str, NDArray[np.generic]]) -> list[int]:
    """The K symbols that the concept vectors say, within each rule's range; verbalised rows say their text."""
    score_KC, classes_C = symbol_scores(concepts)
    outputs: list[int] = []
    for rule in graph.rules:
        allowed = np.isin(classes_C, rule.range)
        if not allowed.any():
            allowed[:] = True
        for row, told in enumerate(rule.outputs):
            best = np.where(allowed, score_KC[rule.offset + row], -np.inf).argmax()
            outputs.append(int(classes_C[best]) if told is None else told)
    return outputs


CLEAR = 0.25  # margin of the best symbol over the next, in units of the probe's one-hot target


def readability(graph: Graph, concepts: dict[str, NDArray[np.generic]]) -> float:
    """Share of concept vectors that the packet's own symbol states read clearly. Noise is read, but not clearly."""
    return float(read_clearly(concepts).mean()) if graph.n_concepts else 0.0


def read_clearly(concepts: dict[str, NDArray[np.generic]]) -> NDArray[np.bool_]:
    """Which of the K concept vectors are read clearly."""
    score_KC = np.sort(symbol_scores(concepts)[0], axis=1)
    if score_KC.shape[1] == 1:
        return np.ones(len(score_KC), dtype=np.bool_)
    clear_K: NDArray[np.bool_] = (score_KC[:, -1] - score_KC[:, -2]) >= CLEAR
    return clear_K
