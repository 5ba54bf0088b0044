"""What readers keep in the student's own cache between passes, and how they take it on.

Letters: B sequences, H heads, T tokens.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from m2kt.errors import CompatibilityError


class Slot(IntEnum):
    """What a reader keeps in a cache between passes, each in a pseudo layer of its own."""

    FACTS = 0  # tokens, and what stands at them
    STATES = 1  # what is read of the student
    LOOKS = 2
    GATHERS = 3
    HELD = 4  # what is being written


def unrecorded(cache: Any) -> AbstractContextManager[Any]:
    """A context for what readers do in generation: of many small tensors autograd's bookkeeping is a tenth of the time.

    What is made in it stays with the readers: a student's caller never meets a tensor that cannot be written to.
    """
    return torch.inference_mode() if cache is not None and not torch.is_grad_enabled() else nullcontext()


def tokens_in(cache: Any) -> int:
    """Tokens seen in earlier passes. Where the model keeps no keys, the readers' own layers count them."""
    if cache is None:
        return 0
    if not isinstance(cache, DynamicCache):
        raise CompatibilityError(
            f"the concept reader keeps its keys in a DynamicCache, got {type(cache).__name__}; "
            "generate without cache_implementation, or with use_cache=False"
        )
    if any(isinstance(layer, DynamicLayer) for layer in cache.layers):
        return int(cache.get_seq_length())
    if cache.layers and cache.has_previous_state():
        raise CompatibilityError(
            "the cache holds states of earlier passes that the concept reader did not see: a cache must be filled with "
            "the same adapters switched on all the time"
        )
    return 0


def pseudo_layer(cache: DynamicCache, index: int) -> Any:
    """A pseudo layer behind the model's own: beams, crops and batch selection then move it along by themselves."""
    new: Any = GrowableCacheLayer  # transformers leaves the making of layers untyped
    while len(cache.layers) <= index:
        cache.layers.append(new())
    return cache.layers[index]


class GrowableCacheLayer(DynamicLayer):
    """A layer with room to grow: a step writes one token where ``DynamicLayer`` copies all those before it."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Appends keys and values, (B, H, T, width each), and returns all of them."""
        past = self.get_seq_length()
        if not past:
            self.lazy_initialization(key_states, value_states)
            self._rooms: list[Tensor | None] = [None, None]
        self.keys = self._grown(0, self.keys, key_states, past)
        empty = value_states.shape[3] == 0
        self.values = self.keys[..., :0] if empty else self._grown(1, self.values, value_states, past)
        return self.keys, self.values

    def _grown(self, nth: int, kept: Any, new: Tensor, past: int) -> Tensor:
        room, end = self._rooms[nth], past + new.shape[2]
        # beams and selections put other tensors in place of ours; what generation made may not be written to elsewhere
        sealed = room is not None and room.is_inference() and not torch.is_inference_mode_enabled()
        if room is None or sealed or end > room.shape[2] or kept.data_ptr() != room.data_ptr():
            room = new.new_empty(*new.shape[:2], max(end, 2 * past), new.shape[3])
            if past:
                room.narrow(2, 0, past).copy_(kept)
            self._rooms[nth] = room
        room.narrow(2, past, end - past).copy_(new)
        return room.narrow(2, 0, end)
