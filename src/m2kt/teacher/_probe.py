"""Linear probes: which layer says what is about to be written. Legend: N states, D width, C classes."""

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
        z = self._standardise(x_ND)
        self.classes = np.unique(y_N)
        target = (y_N[:, None] == self.classes[None]).astype(np.float64)
        self.bias_C = target.mean(axis=0)
        gram = z.T @ z + penalty * len(z) * np.eye(z.shape[1])
        self.weight_DC = np.linalg.solve(gram, z.T @ (target - self.bias_C))

    def _standardise(self, x_ND: Floats) -> NDArray[np.float64]:
        z: NDArray[np.float64] = ((x_ND - self.mean_D) / self.scale_D).astype(np.float64)
        return z

    def predict(self, x_ND: Floats) -> Ints:
        """The class of each state."""
        # near 1 for the class that a state belongs to
        score_NC = self._standardise(x_ND) @ self.weight_DC + self.bias_C
        best: Ints = self.classes[score_NC.argmax(axis=1)].astype(np.int32)
        return best


def cross_validated(x_ND: Floats, y_N: Ints, group_N: Ints, folds: int = 5) -> float:
    """Accuracy on groups (concepts) that the probe was not fitted on. NaN with fewer than two groups."""
    groups = np.unique(group_N)
    if len(groups) < 2:
        return float("nan")
    fold_of = {g: i % folds for i, g in enumerate(np.random.default_rng(0).permutation(groups).tolist())}
    fold_N = np.array([fold_of[g] for g in group_N.tolist()])
    right = 0
    for fold in np.unique(fold_N):
        held = fold_N == fold
        right += int((RidgeProbe(x_ND[~held], y_N[~held]).predict(x_ND[held]) == y_N[held]).sum())
    return right / len(y_N)
