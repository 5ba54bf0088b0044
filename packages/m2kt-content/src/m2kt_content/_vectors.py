"""Penalty(c_k) from the concept vectors themselves, given a few that are labelled: a ridge probe on directions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RIDGE = 0.1


def vector_penalty(
    vectors_KD: NDArray[np.float32], labelled_LD: NDArray[np.float32], harmful_L: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """How far each concept lies on the harmful side, 0 to 1.

    Args:
        vectors_KD: the packet's concepts.
        labelled_LD: concepts of the same teacher and layer that were judged before.
        harmful_L: the judgement; both kinds must occur.
    """
    if not harmful_L.any() or harmful_L.all():
        raise ValueError("expected labelled vectors of both kinds, harmful and not")
    if vectors_KD.shape[1] != labelled_LD.shape[1]:
        raise ValueError(
            f"expected vectors of one width, came {vectors_KD.shape[1]} and {labelled_LD.shape[1]}"
        )
    centre_D = (labelled_LD[harmful_L].mean(0) + labelled_LD[~harmful_L].mean(0)).astype(np.float64) / 2

    def directions(x_ND: NDArray[np.float32]) -> NDArray[np.float64]:
        moved_ND = x_ND.astype(np.float64) - centre_D
        unit_ND: NDArray[np.float64] = moved_ND / np.maximum(
            np.linalg.norm(moved_ND, axis=1, keepdims=True), 1e-12
        )
        return unit_ND

    x_LD = directions(labelled_LD)
    target_L = np.where(harmful_L, 1.0, -1.0)
    # The dual form: labelled concepts are few, dimensions many.
    dual_L = np.linalg.solve(x_LD @ x_LD.T + RIDGE * np.eye(len(x_LD)), target_L)
    return np.clip((directions(vectors_KD) @ x_LD.T @ dual_L + 1) / 2, 0.0, 1.0)
