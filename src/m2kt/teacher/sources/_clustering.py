"""Clustering: states that lie together are one concept (the paper's first option).

The effect of what a step reads is the mutual information between its symbol and the cluster of the state that predicts
the step; vectors move towards the centroid of their cluster. This measures correlation, not cause: it cannot tell a
symbol from its copies. Letters: N samples, D width, K concepts, C symbols with prototypes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from m2kt.teacher._edges import Edge
from m2kt.teacher._statistics import k_means, normalised_information
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.sources._base import NOT_MEASURED, EqualWeights, Floats, Ints, states_by_edge

PER_EDGE = 64


class Clustering(EqualWeights):
    """k-means over states, mutual information for effects."""

    def effects(self, teacher: Teacher, edges: Sequence[Edge], *, seed: int) -> list[float]:
        """Normalised mutual information of the symbol read and the state's cluster, above chance."""
        layer = max(1, 2 * teacher.facts.layers // 3)
        effects = []
        for edge, (x_ND, read_N) in zip(
            edges, states_by_edge(teacher, edges, PER_EDGE, layer, "clustering"), strict=True
        ):
            if len(set(read_N.tolist())) < 2:
                effects.append(NOT_MEASURED)
                continue
            n_texts = len({use.context.sample.units[use.context.unit].text for use in edge.uses[:PER_EDGE]})
            cluster_N = k_means(x_ND, min(max(n_texts, 2), len(x_ND)), seed)
            by_chance = normalised_information(np.random.default_rng(seed).permutation(read_N), cluster_N)
            effects.append(max(0.0, normalised_information(read_N, cluster_N) - by_chance))
        return effects

    def refine(self, vectors_KD: Floats, outputs_K: Ints, direction_CD: Floats) -> Floats:
        """Move each vector half-way to its cluster's centroid; as many clusters as distinct outputs."""
        cluster_K = k_means(vectors_KD, min(len(set(outputs_K.tolist())), len(vectors_KD)), 0)
        centroid_KD = np.stack([vectors_KD[cluster_K == c].mean(axis=0) for c in cluster_K])
        refined_KD: Floats = ((vectors_KD + centroid_KD) / 2).astype(np.float32)
        return refined_KD
