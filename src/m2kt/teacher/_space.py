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
    """States of ``place``, those directions weighted that its head reads.

    In their span, what a state says is turned into the head's logits of the words that the skill writes: one axis a
    word (``axis_D``), all at right angles as far as that goes, so that the nearest by cosine is the head's choice.
    """

    layer: int  # as packets count it
    basis_DR: Floats | None = None  # orthonormal
    weight_R: Floats | None = None
    axis_D: dict[int, Floats] = field(default_factory=dict)  # by symbol: the mean over its words

    @property
    def name(self) -> str:
        """stream or head."""
        return "stream" if self.basis_DR is None else "head"

    @property
    def place(self) -> int:
        """What to record."""
        return self.layer if self.basis_DR is None else IN_FRONT_OF_HEAD

    def __call__(self, state_ND: Floats) -> Floats:
        """States as vectors, (N, D)."""
        if self.basis_DR is None or self.weight_R is None:
            return state_ND
        return (state_ND + GAIN * (state_ND @ self.basis_DR * self.weight_R) @ self.basis_DR.T).astype(
            np.float32
        )

    def symbols(self, state_PD: Floats) -> Floats:
        """Symbol states as vectors: centred where the head reads, as a student centres all vectors by them."""
        vector_PD = self(state_PD)
        if self.basis_DR is None:
            return vector_PD
        middle_D = vector_PD.mean(axis=0)
        centred: Floats = vector_PD - middle_D @ self.basis_DR @ self.basis_DR.T
        return centred

    def anchors(self, pool_PD: Floats, symbol_P: Ints) -> dict[int, Floats]:
        """What vectors are compared with, by symbol: the mean of its states, or its axis, at their middle and size."""
        means = {s: pool_PD[symbol_P == s].mean(axis=0) for s in np.unique(symbol_P).tolist()}
        if self.basis_DR is None:
            return means
        middle_D = pool_PD.mean(axis=0)
        size = np.mean([np.linalg.norm(mean_D - middle_D) for mean_D in means.values()])
        scale = size / max(float(np.mean([np.linalg.norm(self.axis_D[s]) for s in means])), 1e-9)
        return {s: (middle_D + scale * self.axis_D[s]).astype(np.float32) for s in means}

    def widened(self, pool_PD: Floats, symbol_P: Ints, rng: np.random.Generator) -> tuple[Floats, Ints]:
        """Symbol states, and in front of the head made-up ones: of any copy, with what the head reads as the symbol.

        So what tells symbols apart is not taken for what tells copies apart.
        """
        if self.basis_DR is None:
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
    return head_space(depth, weight_VD[every].float().cpu().numpy(), every, tokens)


def head_space(
    depth: int, word_WD: Floats, words: Sequence[int], tokens: Mapping[int, Sequence[int]]
) -> Space | None:
    """The space that a head with these rows for ``words`` spans; None where it does not tell them apart."""
    turn_WR, size_R, basis_RD = np.linalg.svd(word_WD - word_WD.mean(axis=0), full_matrices=False)
    told = size_R > 1e-3 * max(float(size_R[0]), 1e-9)
    if not told.any():
        return None
    axis_of = dict(zip(words, turn_WR[:, told] @ basis_RD[told], strict=True))
    axes = {s: np.mean([axis_of[t] for t in own], axis=0) for s, own in tokens.items()}
    weight_R = (size_R[told] / size_R[told].mean()).astype(np.float32)
    return Space(depth, basis_RD[told].T.astype(np.float32), weight_R, axes)
