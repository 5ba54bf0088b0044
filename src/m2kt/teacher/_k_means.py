"""k-means with k-means++ seeding. Letters: N states, K clusters, D width."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def k_means(x_ND: Floats, k: int, seed: int, rounds: int = 20) -> NDArray[np.int64]:
    """Cluster index of each row, (N,)."""
    rng = np.random.default_rng(seed)
    centres = [x_ND[rng.integers(len(x_ND))]]
    while len(centres) < k:
        distance_N = np.min([((x_ND - c) ** 2).sum(1) for c in centres], axis=0)
        total = distance_N.sum()
        centres.append(x_ND[rng.choice(len(x_ND), p=distance_N / total if total > 0 else None)])
    centre_KD = np.stack(centres)
    nearest_N = np.zeros(len(x_ND), dtype=np.int64)
    for _ in range(rounds):
        nearest_N = ((x_ND[:, None] - centre_KD[None]) ** 2).sum(-1).argmin(1)
        for c in range(k):
            if (nearest_N == c).any():
                centre_KD[c] = x_ND[nearest_N == c].mean(0)
    return nearest_N
