"""Linear probes, k-means and mutual information in plain numpy: ADR 27 says why not from scikit-learn.

Letters: N states, D width, C classes or clusters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


class RidgeProbe:
    """One-against-all ridge classifier on standardised states."""

    def __init__(self, x_ND: Floats, y_N: Ints, penalty: float = 1e-2) -> None:
        self.mean_D = x_ND.mean(axis=0)
        self.scale_D = x_ND.std(axis=0) + 1e-6
        z_ND = self._standardise(x_ND)
        self.classes = np.unique(y_N)
        target_NC = (y_N[:, None] == self.classes[None]).astype(np.float64)
        self.bias_C = target_NC.mean(axis=0)
        gram_DD = z_ND.T @ z_ND + penalty * len(z_ND) * np.eye(z_ND.shape[1])
        self.weight_DC = np.linalg.solve(gram_DD, z_ND.T @ (target_NC - self.bias_C))

    def _standardise(self, x_ND: Floats) -> NDArray[np.float64]:
        z_ND: NDArray[np.float64] = ((x_ND - self.mean_D) / self.scale_D).astype(np.float64)
        return z_ND

    def predict(self, x_ND: Floats) -> Ints:
        """The class of each state, (N,)."""
        score_NC = self._standardise(x_ND) @ self.weight_DC + self.bias_C
        best_N: Ints = self.classes[score_NC.argmax(axis=1)].astype(np.int32)
        return best_N


def cross_validated(x_ND: Floats, y_N: Ints, group_N: Ints, folds: int = 5) -> float:
    """Accuracy on groups (concepts) that the probe was not fitted on; NaN with fewer than two groups."""
    groups = np.unique(group_N)
    if len(groups) < 2:
        return float("nan")
    fold_of = {g: i % folds for i, g in enumerate(np.random.default_rng(0).permutation(groups).tolist())}
    fold_N = np.array([fold_of[g] for g in group_N.tolist()])
    correct = 0
    for fold in np.unique(fold_N):
        held_out_N = fold_N == fold
        probe = RidgeProbe(x_ND[~held_out_N], y_N[~held_out_N])
        correct += int((probe.predict(x_ND[held_out_N]) == y_N[held_out_N]).sum())
    return correct / len(y_N)


def k_means(x_ND: Floats, k: int, seed: int, rounds: int = 20) -> NDArray[np.int64]:
    """Cluster index of each row, (N,); k-means++ chooses the first centres."""
    rng = np.random.default_rng(seed)
    centres = [x_ND[rng.integers(len(x_ND))]]
    while len(centres) < k:
        distance_N = np.min([((x_ND - c) ** 2).sum(1) for c in centres], axis=0)
        total = distance_N.sum()
        centres.append(x_ND[rng.choice(len(x_ND), p=distance_N / total if total > 0 else None)])
    centre_CD = np.stack(centres)
    nearest_N = np.zeros(len(x_ND), dtype=np.int64)
    for _ in range(rounds):
        nearest_N = ((x_ND[:, None] - centre_CD[None]) ** 2).sum(-1).argmin(1)
        for c in range(k):
            if (nearest_N == c).any():
                centre_CD[c] = x_ND[nearest_N == c].mean(0)
    return nearest_N


def normalised_information(a_N: NDArray[np.int32], b_N: NDArray[np.int64]) -> float:
    """Mutual information of two labellings over the entropy of the second, 0..1; 0 where that has none."""
    row_N, column_N = (np.unique(x_N, return_inverse=True)[1] for x_N in (a_N, b_N))
    joint = np.zeros((row_N.max() + 1, column_N.max() + 1))
    np.add.at(joint, (row_N, column_N), 1 / len(a_N))
    pa, pb = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
    positive = joint > 0
    mutual = float((joint[positive] * np.log(joint[positive] / (pa @ pb)[positive])).sum())
    entropy = float(-(pb[pb > 0] * np.log(pb[pb > 0])).sum())
    return mutual / entropy if entropy > 0 else 0.0
