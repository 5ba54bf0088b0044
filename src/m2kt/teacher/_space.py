"""The space in which states become vectors: a layer, or what stands in front of the teacher's head.

In a large pretrained teacher a rule's state and a copy's differ in much that has nothing to do with what is written
next, and no layer's symbol states may read the rules. What decides is known there, though: the directions by which the
teacher's own head tells the skill's symbols apart. In front of the head, those can be made to count more.

Legend: N states, D width, R directions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from m2kt.teacher._ask import Teacher
from m2kt.teacher._states import IN_FRONT_OF_HEAD, Floats

GAIN = 8.0  # by how much the head's directions count more than others


@dataclass(frozen=True)
class Space:
    """States of ``place``, those directions weighted that its head reads."""

    layer: int  # as packets count it
    read_DR: Floats | None = None  # orthonormal

    @property
    def name(self) -> str:
        """stream or head."""
        return "stream" if self.read_DR is None else "head"

    @property
    def place(self) -> int:
        """What to record."""
        return self.layer if self.read_DR is None else IN_FRONT_OF_HEAD

    def __call__(self, state_ND: Floats) -> Floats:
        """States as vectors, (N, D)."""
        if self.read_DR is None:
            return state_ND
        weighted: Floats = state_ND + GAIN * (state_ND @ self.read_DR) @ self.read_DR.T
        return weighted


@torch.no_grad()
def in_front_of_head(teacher: Teacher, depth: int, tokens: Iterable[int]) -> Space | None:
    """The space in front of the head, which tells ``tokens`` apart; None where there is no head over the states."""
    head = teacher.model.get_output_embeddings()
    weight_VD = None if head is None else getattr(head, "weight", None)
    if weight_VD is None or weight_VD.ndim != 2:
        return None
    word_RD = weight_VD[sorted(set(tokens))].float().cpu().numpy()
    _, size, basis_RD = np.linalg.svd(word_RD - word_RD.mean(axis=0), full_matrices=False)
    told = size > 1e-3 * max(float(size[0]), 1e-9)
    return Space(depth, basis_RD[told].T.astype(np.float32)) if told.any() else None
