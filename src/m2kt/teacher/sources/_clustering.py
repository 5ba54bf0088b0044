"""Clustering: states that lie together are one concept (the paper's first option).

The effect of an earlier unit is the mutual information between its symbol and the cluster of the state that predicts
the step; vectors move towards the centroid of their cluster. This measures correlation, not cause: it cannot tell a
symbol from its copies. Letters: N samples, D width, K concepts, C symbols with prototypes.
"""

from __future__ import annotations

import numpy as np

from m2kt.models import blocks
from m2kt.teacher._corpus import Corpus
from m2kt.teacher._states import record_contexts
from m2kt.teacher._statistics import k_means, normalised_information
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.sources._base import EqualWeights, Floats, Ints, contexts_by_node

PER_NODE = 64


class Clustering(EqualWeights):
    """k-means over states, mutual information for effects."""

    def measure_effects(self, teacher: Teacher, corpus: Corpus, *, seed: int) -> None:
        """Effect of a unit: normalised mutual information of its symbol and the state's cluster, above chance."""
        nodes = contexts_by_node(corpus, PER_NODE)
        layer = max(1, (2 * len(blocks(teacher.model))) // 3)
        x_ND = record_contexts(teacher, [c for n in nodes for c in n.contexts], [layer], "clustering")[:, 0]
        start = 0
        for node_contexts in nodes:
            _, node, contexts = node_contexts
            node_x_ND = x_ND[start : start + len(contexts)]
            start += len(contexts)
            n_texts = len({c.sample.units[c.unit].text for c in contexts})
            cluster_N = k_means(node_x_ND, min(max(n_texts, 2), len(node_x_ND)), seed)
            node.causes.effect = {}
            for u, column_N in enumerate(node_contexts.columns_NU.T):
                if column_N[0] >= 0:
                    shuffled_N = np.random.default_rng(seed).permutation(column_N)
                    by_chance = normalised_information(shuffled_N, cluster_N)
                    information = normalised_information(column_N, cluster_N)
                    node.causes.effect[u] = max(0.0, information - by_chance)

    def refine(self, vectors_KD: Floats, outputs_K: Ints, direction_CD: Floats) -> Floats:
        """Move each vector half-way to its cluster's centroid; as many clusters as distinct outputs."""
        cluster_K = k_means(vectors_KD, min(len(set(outputs_K.tolist())), len(vectors_KD)), 0)
        centroid_KD = np.stack([vectors_KD[cluster_K == c].mean(axis=0) for c in cluster_K])
        refined_KD: Floats = ((vectors_KD + centroid_KD) / 2).astype(np.float32)
        return refined_KD
