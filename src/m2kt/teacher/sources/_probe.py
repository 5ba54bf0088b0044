"""Bottleneck probing: what a linear probe can decode from the state that predicts a step (the paper's third option).

Letters: N samples, D width, K concepts, C symbols with prototypes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from m2kt.teacher._edges import Edge
from m2kt.teacher._statistics import RidgeProbe
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.sources._base import NOT_MEASURED, EqualWeights, Floats, Ints, states_by_edge

PER_EDGE = 120
MIN_GAIN = 0.1  # accuracy above chance, as a share of what is possible; below it the effect is 0


class Probe(EqualWeights):
    """Effects: how well a probe decodes the symbol read. Vectors: projected on the probe's subspace."""

    def effects(self, teacher: Teacher, edges: Sequence[Edge], *, seed: int) -> list[float]:
        """Held-out probe accuracy above chance."""
        layer = max(1, teacher.facts.layers - 1)
        return [_gain(x_ND, y_N) for x_ND, y_N in states_by_edge(teacher, edges, PER_EDGE, layer, "probing states")]

    def refine(self, vectors_KD: Floats, outputs_K: Ints, direction_CD: Floats) -> Floats:
        """Project deviations from the mean on the directions of the probe and of the readout."""
        if len(set(outputs_K.tolist())) < 2:
            return vectors_KD
        probe = RidgeProbe(vectors_KD, outputs_K)
        directions = np.concatenate([probe.weight_DC / probe.scale_D[:, None], direction_CD.T], axis=1)
        basis, _ = np.linalg.qr(directions)
        mean_D = vectors_KD.mean(axis=0)
        projected_KD: Floats = (mean_D + (vectors_KD - mean_D) @ basis @ basis.T).astype(np.float32)
        return projected_KD


def _gain(x_ND: Floats, y_N: Ints) -> float:
    """Accuracy above chance on the second half of a probe that was fitted on the first."""
    half = len(y_N) // 2
    if len(set(y_N[:half].tolist())) < 2:
        return NOT_MEASURED
    predicted_N = RidgeProbe(x_ND[:half], y_N[:half], penalty=0.1).predict(x_ND[half:])
    accuracy = float((predicted_N == y_N[half:]).mean())
    chance = float(np.bincount(y_N).max() / len(y_N))
    gain = (accuracy - chance) / max(1e-6, 1 - chance)
    return gain if gain > MIN_GAIN else 0.0
