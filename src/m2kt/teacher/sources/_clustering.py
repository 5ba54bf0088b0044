"""Clustering: states that lie together are one concept (the paper's first option).

Candidates are earlier units whose symbol tells the cluster of the state that writes the step; vectors are drawn to
the centroid of the cluster that holds them. Correlation, not cause: it cannot tell a symbol from its copies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m2kt.models import blocks
from m2kt.teacher._ask import Teacher
from m2kt.teacher._pool import Pool
from m2kt.teacher._states import gather
from m2kt.teacher.sources._base import Floats, Ints, Plain, node_requests

PER_NODE = 64


class Clustering(Plain):
    """k-means over states, mutual information for candidates."""

    name = "clustering"

    def candidates(self, teacher: Teacher, pool: Pool, *, seed: int) -> None:
        """Effect of a unit: normalised mutual information between its symbol and the state's cluster."""
        found = node_requests(pool, PER_NODE)
        flat = [r for _, _, requests in found for r in requests]
        layer = max(1, (2 * len(blocks(teacher.model))) // 3)
        x_ND = gather(teacher, flat, [layer], "clustering")[:, 0]
        at = 0
        for template, node, requests in found:
            shape = pool.shapes[template]
            trie = shape.nodes[node]
            x = x_ND[at : at + len(requests)]
            at += len(requests)
            columns = shape.symbols_NP[trie.samples[: len(requests)], : trie.depth]
            written = len({r.sample.units[r.unit].text for r in requests})
            cluster = k_means(x, min(max(written, 2), len(x)), seed)
            trie.causes.effect = {}
            for p in range(trie.depth):
                if columns[0, p] >= 0:
                    by_chance = _information(_shuffled(columns[:, p], seed), cluster)
                    trie.causes.effect[p] = max(0.0, _information(columns[:, p], cluster) - by_chance)

    def refine(self, vectors_KD: Floats, outputs_K: Ints, direction_CD: Floats) -> Floats:
        """Each vector moves half-way to its cluster's centroid; as many clusters as distinct outputs."""
        cluster = k_means(vectors_KD, min(len(set(outputs_K.tolist())), len(vectors_KD)), 0)
        centroids = np.stack([vectors_KD[cluster == c].mean(axis=0) for c in cluster])
        drawn: Floats = ((vectors_KD + centroids) / 2).astype(np.float32)
        return drawn


def k_means(x_ND: Floats, k: int, seed: int, rounds: int = 20) -> NDArray[np.int64]:
    """Cluster index of each row (N,); k-means++ seeding."""
    rng = np.random.default_rng(seed)
    centres = [x_ND[rng.integers(len(x_ND))]]
    while len(centres) < k:
        distance = np.min([((x_ND - c) ** 2).sum(1) for c in centres], axis=0)
        total = distance.sum()
        centres.append(x_ND[rng.choice(len(x_ND), p=distance / total if total > 0 else None)])
    centre_KD = np.stack(centres)
    nearest = np.zeros(len(x_ND), dtype=np.int64)
    for _ in range(rounds):
        nearest = ((x_ND[:, None] - centre_KD[None]) ** 2).sum(-1).argmin(1)
        for c in range(k):
            if (nearest == c).any():
                centre_KD[c] = x_ND[nearest == c].mean(0)
    return nearest


def _information(a_N: NDArray[np.int32], b_N: NDArray[np.int64]) -> float:
    _, a = np.unique(a_N, return_inverse=True)
    _, b = np.unique(b_N, return_inverse=True)
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a, b), 1 / len(a))
    pa, pb = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
    positive = joint > 0
    mutual = float((joint[positive] * np.log(joint[positive] / (pa @ pb)[positive])).sum())
    entropy = float(-(pb[pb > 0] * np.log(pb[pb > 0])).sum())
    return mutual / entropy if entropy > 0 else 0.0


def _shuffled(a_N: NDArray[np.int32], seed: int) -> NDArray[np.int32]:
    return np.random.default_rng(seed).permutation(a_N)
