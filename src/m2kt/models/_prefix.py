"""What a model computed for the tokens that many sequences begin with: a system message, examples, a template's head.

Computed once, and handed out as the cache of any number of rows. Letters: B batch, T tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from m2kt.errors import ModelError

from ._forward import next_token_logits, pad_batch
from ._load import LoadedModel

LEAST = 16  # tokens; the cache of a shorter prefix saves less than it costs
_TOLERANCE = {torch.float32: 1e-3}
_TOLERANCE_ROUNDED = 0.1  # of the logits' deviation; kernels round sums of other lengths differently


@dataclass(frozen=True)
class Prefix:
    """Tokens with the model's cache of them."""

    ids: tuple[int, ...]
    cache: Cache
    """Of one row."""

    def begins(self, sequence: Sequence[int]) -> bool:
        """Whether a sequence begins with these tokens and goes on."""
        n = len(self.ids)
        return len(sequence) > n and tuple(sequence[:n]) == self.ids

    def for_rows(self, rows: int) -> Cache:
        """A new cache, for a batch of so many rows; a pass adds to it."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(rows)
        return cache


def common_prefix(sequences: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The longest prefix that sequences share and that leaves each a token; empty where it would save too little."""
    shortest = min(map(len, sequences), default=0)
    n = 0
    while n < shortest - 1 and len({sequence[n] for sequence in sequences}) == 1:
        n += 1
    return () if n < LEAST or len(sequences) < 2 else tuple(sequences[0][:n])


def shared_prefix(
    loaded: LoadedModel, sequences: Sequence[Sequence[int]], ids: Sequence[int] | None = None
) -> Prefix | None:
    """What sequences begin with, computed; None where that is short, or a cache does not stand for it.

    A cache stands for its tokens if all its layers keep every token (a sliding window does not, nor does a recurrent
    state behind which padding follows), and if the next token is then predicted as in whole passes.

    Args:
        ids: what all of them begin with; the longest such prefix by default.
    """
    ids = common_prefix(sequences) if ids is None else tuple(ids)
    if not ids:
        return None
    try:
        prefix = compute_prefix(loaded, ids)
    except ModelError:
        return None
    return prefix if _is_as_good(loaded, prefix, sequences) else None


@torch.no_grad()
def compute_prefix(loaded: LoadedModel, ids: Sequence[int]) -> Prefix:
    """What the model computes for the tokens.

    Raises:
        ModelError: its cache does not keep every token.
    """
    head = torch.tensor([list(ids)], device=loaded.device)
    cache = getattr(loaded.model(input_ids=head, use_cache=True), "past_key_values", None)
    if not isinstance(cache, DynamicCache) or any(type(layer) is not DynamicLayer for layer in cache.layers):
        raise ModelError(f"{loaded.name}: expected a cache that keeps every token, got {type(cache).__name__}")
    return Prefix(tuple(ids), cache)


def with_prefix(prefix: Prefix, mask_BT: Tensor) -> Tensor:
    """The attention mask of rows behind a prefix, (B, prefix + T)."""
    return torch.cat([mask_BT.new_ones(len(mask_BT), len(prefix.ids)), mask_BT], dim=1)


@torch.no_grad()
def _is_as_good(loaded: LoadedModel, prefix: Prefix, sequences: Sequence[Sequence[int]]) -> bool:
    """Whether the shortest and the longest sequence, in one batch, are continued as in a whole pass."""
    by_length = sorted(sequences, key=len)
    two = [by_length[0], by_length[-1]]
    ids_BT, mask_BT = pad_batch(two, loaded.pad_id, device=loaded.device)
    last_B1 = torch.full((2, 1), -1, device=loaded.device)
    whole_BV = next_token_logits(loaded.model, ids_BT, mask_BT, last_B1 % ids_BT.shape[1])[:, 0].float()
    rest = [sequence[len(prefix.ids) :] for sequence in two]
    ids_BT, mask_BT = pad_batch(rest, loaded.pad_id, device=loaded.device)
    try:
        behind_BV = next_token_logits(
            loaded.model,
            ids_BT,
            with_prefix(prefix, mask_BT),
            last_B1 % ids_BT.shape[1],
            past=prefix.for_rows(2),
        )[:, 0].float()
    except (RuntimeError, TypeError, ValueError, IndexError):
        return False  # a model that does not go on from a cache in this way is asked whole
    tolerance = _TOLERANCE.get(loaded.model.dtype, _TOLERANCE_ROUNDED)
    return bool((whole_BV - behind_BV).abs().max() <= tolerance * whole_BV.std())
