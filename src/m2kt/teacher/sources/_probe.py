"""Bottleneck probing: what a linear probe can read from the state that writes a step (the paper's third option)."""

from __future__ import annotations

import numpy as np

from m2kt.models import blocks
from m2kt.teacher._ask import Teacher
from m2kt.teacher._pool import Pool
from m2kt.teacher._probe import RidgeProbe
from m2kt.teacher._states import gather
from m2kt.teacher.sources._base import Floats, Ints, Plain, node_requests

PER_NODE = 120


class Probe(Plain):
    """Candidates: units whose symbol a probe reads from the predicting state. Vectors: within the probe's subspace."""

    name = "probe"

    def candidates(self, teacher: Teacher, pool: Pool, *, seed: int) -> None:
        """Effect of a unit: held-out probe accuracy above chance, 0 where a probe reads nothing."""
        found = node_requests(pool, PER_NODE)
        flat = [r for _, _, requests in found for r in requests]
        layer = max(1, len(blocks(teacher.model)) - 1)
        x_ND = gather(teacher, flat, [layer], "probing states")[:, 0]
        at = 0
        for template, node, requests in found:
            shape = pool.shapes[template]
            trie = shape.nodes[node]
            x = x_ND[at : at + len(requests)]
            at += len(requests)
            columns = shape.symbols_NP[trie.samples[: len(requests)], : trie.depth]
            half = len(x) // 2
            trie.causes.effect = {}
            for p in range(trie.depth):
                y = columns[:, p]
                if y[0] < 0 or len(set(y[:half].tolist())) < 2:
                    continue
                right = float(
                    (RidgeProbe(x[:half], y[:half], penalty=0.1).predict(x[half:]) == y[half:]).mean()
                )
                chance = float(np.bincount(y - y.min()).max() / len(y))
                gain = (right - chance) / max(1e-6, 1 - chance)
                trie.causes.effect[p] = gain if gain > 0.1 else 0.0

    def refine(self, vectors_KD: Floats, outputs_K: Ints, direction_CD: Floats) -> Floats:
        """Projection on the probe's directions around the mean, and on what is heard: the rest is dropped."""
        if len(set(outputs_K.tolist())) < 2:
            return vectors_KD
        probe = RidgeProbe(vectors_KD, outputs_K)
        basis, _ = np.linalg.qr(
            np.concatenate([probe.weight_DC / probe.scale_D[:, None], direction_CD.T], axis=1)
        )
        mean = vectors_KD.mean(axis=0)
        kept: Floats = (mean + (vectors_KD - mean) @ basis @ basis.T).astype(np.float32)
        return kept
