"""The space of concept vectors: states of a layer, or states after the final norm with the head's directions amplified.

In a large pretrained teacher, states where a rule writes a symbol and states where it is copied differ in much that
does not concern the next symbol, so that prototypes may decode the rule states of no layer. The directions by which
the output head distinguishes the skill's symbols are known: after the final norm they are amplified, and the head's
rows for a symbol serve as its prototype.

Letters: N states, P prototype samples, D width, S symbols, V vocabulary, X head directions, W word tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m2kt.teacher._states import Floats
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.engine import FINAL_NORM, HeadRows

Ints = NDArray[np.int32]

GAIN = 32.0  # amplification of the head's directions
SYNTHETIC_SAMPLES = 24  # further prototype samples per symbol
SYNTHETIC_SCALE = 0.5  # length of a symbol's deviation in them, relative to its prototype


@dataclass(frozen=True)
class Space:
    """States of one layer; after the final norm, with the directions amplified that the head reads.

    Within their span, vectors are the head's logits of the skill's word tokens: one axis per token (``axis_D``), as
    orthogonal as possible, so that the nearest prototype by cosine is the head's choice.
    """

    layer: int  # as packets count layers
    basis_DX: Floats | None = None  # orthonormal
    weight_X: Floats | None = None
    axis_D: dict[int, Floats] = field(default_factory=dict)  # by symbol: mean over its tokens

    @property
    def name(self) -> str:
        """``stream`` or ``head``."""
        return "stream" if self.basis_DX is None else "head"

    @property
    def recorded_layer(self) -> int:
        """The layer number for ``record_contexts``."""
        return self.layer if self.basis_DX is None else FINAL_NORM

    def __call__(self, state_ND: Floats) -> Floats:
        """States as vectors, (N, D)."""
        if self.basis_DX is None or self.weight_X is None:
            return state_ND
        amplified_ND = GAIN * (state_ND @ self.basis_DX * self.weight_X) @ self.basis_DX.T
        return (state_ND + amplified_ND).astype(np.float32)

    def prototype_samples(self, state_PD: Floats) -> Floats:
        """Symbol states as vectors, centred in the head's directions as the student centres all vectors."""
        vector_PD = self(state_PD)
        if self.basis_DX is None:
            return vector_PD
        mean_D = vector_PD.mean(axis=0)
        centred_PD: Floats = vector_PD - mean_D @ self.basis_DX @ self.basis_DX.T
        return centred_PD

    def prototypes(self, sample_PD: Floats, symbol_P: Ints) -> dict[int, Floats]:
        """By symbol: the mean of its samples, or its head axis, moved to the samples' mean and scaled to their size."""
        means = {s: sample_PD[symbol_P == s].mean(axis=0) for s in np.unique(symbol_P).tolist()}
        if self.basis_DX is None:
            return means
        centre_D = sample_PD.mean(axis=0)
        size = np.mean([np.linalg.norm(mean_D - centre_D) for mean_D in means.values()])
        scale = size / max(float(np.mean([np.linalg.norm(self.axis_D[s]) for s in means])), 1e-9)
        return {s: (centre_D + scale * self.axis_D[s]).astype(np.float32) for s in means}

    def augmented(self, sample_PD: Floats, symbol_P: Ints, rng: np.random.Generator) -> tuple[Floats, Ints]:
        """Prototype samples; after the final norm also synthetic ones, the residual of any sample on any prototype.

        They keep what distinguishes contexts from being taken for what distinguishes symbols.
        """
        if self.basis_DX is None:
            return sample_PD, symbol_P
        centre_D = sample_PD.mean(axis=0)
        means = {s: sample_PD[symbol_P == s].mean(axis=0) for s in np.unique(symbol_P).tolist()}
        residual_PD = sample_PD - np.stack([means[s] for s in symbol_P.tolist()])
        synthetic = [
            residual_PD[rng.integers(0, len(residual_PD), SYNTHETIC_SAMPLES)]
            + centre_D
            + SYNTHETIC_SCALE * (prototype_D - centre_D)
            for prototype_D in self.prototypes(sample_PD, symbol_P).values()
        ]
        symbols = np.repeat(np.array(list(means), dtype=symbol_P.dtype), SYNTHETIC_SAMPLES)
        return np.concatenate([sample_PD, *synthetic]).astype(np.float32), np.concatenate([symbol_P, symbols])


def final_norm_space(teacher: Teacher, depth: int, tokens: Mapping[int, Sequence[int]]) -> Space | None:
    """The space after the final norm; None for a model without a linear output head.

    Args:
        tokens: by symbol, the tokens with which the teacher writes it.
    """
    words = sorted({token for symbol_tokens in tokens.values() for token in symbol_tokens})
    (reply,) = teacher.engine.ask([HeadRows(tuple(words))])
    word_WD: Floats = reply["word_WD"].astype(np.float32, copy=False)
    return head_space(depth, word_WD, words, tokens) if word_WD.size else None


def head_space(depth: int, word_WD: Floats, words: Sequence[int], tokens: Mapping[int, Sequence[int]]) -> Space | None:
    """The space of a head with rows ``word_WD`` for the tokens ``words``; None if the rows are equal."""
    left_WX, size_X, right_XD = np.linalg.svd(word_WD - word_WD.mean(axis=0), full_matrices=False)
    kept_X = size_X > 1e-3 * max(float(size_X[0]), 1e-9)
    if not kept_X.any():
        return None
    axis_of = dict(zip(words, left_WX[:, kept_X] @ right_XD[kept_X], strict=True))
    axes = {s: np.mean([axis_of[t] for t in symbol_tokens], axis=0) for s, symbol_tokens in tokens.items()}
    weight_X = (size_X[kept_X] / size_X[kept_X].mean()).astype(np.float32)
    return Space(depth, right_XD[kept_X].T.astype(np.float32), weight_X, axes)
