"""Bottleneck probing: what a linear probe can decode from the state that predicts a step (the paper's third option).

Letters: N samples, D width, K concepts, C symbols with prototypes.
"""

from __future__ import annotations

import numpy as np

from m2kt.models import blocks
from m2kt.teacher._corpus import Corpus
from m2kt.teacher._states import record_contexts
from m2kt.teacher._statistics import RidgeProbe
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.sources._base import EqualWeights, Floats, Ints, contexts_by_node

PER_NODE = 120
MIN_GAIN = 0.1  # accuracy above chance, as a share of what is possible; below it the effect is 0


class Probe(EqualWeights):
    """Effects: how well a probe decodes a unit's symbol. Vectors: projected on the probe's subspace."""

    def measure_effects(self, teacher: Teacher, corpus: Corpus, *, seed: int) -> None:
        """Effect of a unit: held-out probe accuracy above chance."""
        nodes = contexts_by_node(corpus, PER_NODE)
        layer = max(1, len(blocks(teacher.model)) - 1)
        x_ND = record_contexts(teacher, [c for n in nodes for c in n.contexts], [layer], "probing states")[:, 0]
        start = 0
        for node_contexts in nodes:
            node, n = node_contexts.node, len(node_contexts.contexts)
            node_x_ND = x_ND[start : start + n]
            start += n
            half = n // 2
            node.causes.effect = {}
            for u, y_N in enumerate(node_contexts.columns_NU.T):
                if y_N[0] < 0 or len(set(y_N[:half].tolist())) < 2:
                    continue
                predicted_N = RidgeProbe(node_x_ND[:half], y_N[:half], penalty=0.1).predict(node_x_ND[half:])
                accuracy = float((predicted_N == y_N[half:]).mean())
                chance = float(np.bincount(y_N - y_N.min()).max() / n)
                gain = (accuracy - chance) / max(1e-6, 1 - chance)
                node.causes.effect[u] = gain if gain > MIN_GAIN else 0.0

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
