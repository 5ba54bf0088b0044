"""Cross-validated linear probes: which layer says what is about to be written. Legend: N states, D width."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import RidgeProbe

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


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
