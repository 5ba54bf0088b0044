"""The space in which states become vectors: a layer, or what stands in front of the teacher's head.

In a large pretrained teacher a rule's state and a copy's differ in much that has nothing to do with what is written
next, and no layer's symbol states may read the rules. What decides is known there, though: the directions by which the
teacher's own head tells the skill's symbols apart. In front of the head, those can be made to count more, and what the
head reads as a symbol can stand for it.

Legend: N states, P pool states, D width, R directions, S symbols, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from m2kt.teacher._ask import Teacher
from m2kt.teacher._states import IN_FRONT_OF_HEAD, Floats

Ints = NDArray[np.int32]

GAIN = 32.0  # by how much the head's directions count more than others
MADE_UP = 24  # further states a symbol
PART = 0.5  # of its usual size: how strongly a symbol speaks in them


@dataclass(frozen=True)
class Space:
    """States of ``place``, those directions weighted that its head reads."""

    layer: int  # as packets count it
    read_DR: Floats | None = None  # orthonormal
    row_D: dict[int, Floats] = field(
        default_factory=dict
    )  # by symbol: what the head reads as it, less the mean

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
        return (state_ND + GAIN * (state_ND @ self.read_DR) @ self.read_DR.T).astype(np.float32)

    def anchors(self, pool_PD: Floats, symbol_P: Ints) -> dict[int, Floats]:
        """What vectors are compared with, by symbol: the mean of its states, or in front of the head what it reads."""
        means = {s: pool_PD[symbol_P == s].mean(axis=0) for s in np.unique(symbol_P).tolist()}
        if self.read_DR is None:
            return means
        middle_D = pool_PD.mean(axis=0)
        size = np.mean([np.linalg.norm(mean_D - middle_D) for mean_D in means.values()])
        scale = size / max(float(np.mean([np.linalg.norm(self.row_D[s]) for s in means])), 1e-9)
        return {s: (middle_D + scale * self.row_D[s]).astype(np.float32) for s in means}

    def widened(self, pool_PD: Floats, symbol_P: Ints, rng: np.random.Generator) -> tuple[Floats, Ints]:
        """Symbol states, and in front of the head made-up ones: of any copy, with what the head reads as the symbol.

        So what tells symbols apart is not taken for what tells copies apart.
        """
        if self.read_DR is None:
            return pool_PD, symbol_P
        middle_D = pool_PD.mean(axis=0)
        own = {s: pool_PD[symbol_P == s].mean(axis=0) for s in np.unique(symbol_P).tolist()}
        rest_PD = pool_PD - np.stack([own[s] for s in symbol_P.tolist()])
        further = [
            rest_PD[rng.integers(0, len(rest_PD), MADE_UP)] + middle_D + PART * (anchor_D - middle_D)
            for anchor_D in self.anchors(pool_PD, symbol_P).values()
        ]
        symbols = np.repeat(np.array(list(own), dtype=symbol_P.dtype), MADE_UP)
        return np.concatenate([pool_PD, *further]).astype(np.float32), np.concatenate([symbol_P, symbols])


@torch.no_grad()
def in_front_of_head(teacher: Teacher, depth: int, tokens: Mapping[int, Sequence[int]]) -> Space | None:
    """The space in front of the head; None where there is no head over the states.

    Args:
        tokens: by symbol, what the teacher writes it with.
    """
    head = teacher.model.get_output_embeddings()
    weight_VD = None if head is None else getattr(head, "weight", None)
    if weight_VD is None or weight_VD.ndim != 2:
        return None
    every = sorted({token for own in tokens.values() for token in own})
    word_RD = weight_VD[every].float().cpu().numpy()
    middle_D = word_RD.mean(axis=0)
    _, size, basis_RD = np.linalg.svd(word_RD - middle_D, full_matrices=False)
    told = size > 1e-3 * max(float(size[0]), 1e-9)
    if not told.any():
        return None
    row_of = dict(zip(every, word_RD - middle_D, strict=True))
    rows = {s: np.mean([row_of[t] for t in own], axis=0) for s, own in tokens.items()}
    return Space(depth, basis_RD[told].T.astype(np.float32), rows)
