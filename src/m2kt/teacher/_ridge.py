"""Linear probes: how well a layer's states predict the next symbol. Letters: N states, D width, C classes."""

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
