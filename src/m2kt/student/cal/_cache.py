"""Readers' entries in the student's generation cache: pseudo layers behind the model's layers.

Local letter: W width.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from m2kt._shapes import Shaped
from m2kt.errors import CompatibilityError


class Slot(IntEnum):
    """Pseudo layers of one reader."""

    FEATURES = 0  # token features
    STATES = 1  # states of the blocks that the reader reads
    CONTEXT = 2  # keys and values of context heads
    ARGUMENTS = 3  # keys of argument heads
    CONTENT = 4  # content of the unit in progress


def inference_mode_for(cache: Cache | None) -> AbstractContextManager[object]:
    """``inference_mode`` during generation, where autograd's bookkeeping of small tensors takes a tenth of the time.

    Tensors made in it stay inside the readers: the caller never gets an inference tensor.
    """
    return torch.inference_mode() if cache is not None and not torch.is_grad_enabled() else nullcontext()


def exact_arithmetic(device: torch.device) -> AbstractContextManager[object]:
    """No autocast: in bf16 vectors that differ little would be one, and values that readers keep would be rounded."""
    if not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def count_cached_tokens(cache: Cache | None) -> int:
    """Tokens of earlier passes. In a model without keys the readers' pseudo layers count them."""
    if cache is None:
        return 0
    if not isinstance(cache, DynamicCache):
        raise CompatibilityError(
            f"expected a DynamicCache for the concept reader's keys, got {type(cache).__name__}; "
            "generate without cache_implementation, or with use_cache=False"
        )
    if any(isinstance(layer, DynamicLayer) for layer in cache.layers):
        return int(cache.get_seq_length())
    if cache.layers and cache.has_previous_state():
        raise CompatibilityError(
            "the cache has states of earlier passes that the concept reader did not process: a cache must be filled "
            "with the same adapters switched on all the time"
        )
    return 0


def pseudo_layer(cache: DynamicCache, index: int) -> GrowableCacheLayer:
    """A layer behind the model's layers: beam search, crops and batch selection then apply to it as well."""
    new: Any = GrowableCacheLayer  # untyped in transformers
    while len(cache.layers) <= index:
        cache.layers.append(new())
    layer: GrowableCacheLayer = cache.layers[index]  # type: ignore[assignment]  # no cast: a call in every step
    return layer


class GrowableCacheLayer(DynamicLayer):
    """A layer with spare capacity: a step writes one token, while ``DynamicLayer`` copies all earlier ones."""

    keys: Tensor
    values: Tensor

    def update(
        self,
        key_states: Shaped[Tensor, "B _ T _"],
        value_states: Shaped[Tensor, "B _ T _"],
        *_: object,
        **__: object,
    ) -> tuple[Shaped[Tensor, "B _ N _"], Shaped[Tensor, "B _ N _"]]:
        """Append keys and values and return all of them."""
        n_past = self.get_seq_length()
        if not n_past:
            self.lazy_initialization(key_states, value_states)
            self._buffers: list[Tensor | None] = [None, None]
        self.keys = self._append(0, self.keys, key_states, n_past)
        empty = value_states.shape[3] == 0
        self.values = self.keys[..., :0] if empty else self._append(1, self.values, value_states, n_past)
        return self.keys, self.values

    def _append(self, index: int, present: Tensor, new: Tensor, n_past: int) -> Tensor:
        buffer, end = self._buffers[index], n_past + new.shape[2]
        # beams and selections replace our tensors; inference tensors cannot be written to outside inference mode
        sealed = buffer is not None and buffer.is_inference() and not torch.is_inference_mode_enabled()
        if buffer is None or sealed or end > buffer.shape[2] or present.data_ptr() != buffer.data_ptr():
            buffer = new.new_empty(*new.shape[:2], max(end, 2 * n_past), new.shape[3])
            if n_past:
                buffer.narrow(2, 0, n_past).copy_(present)
            self._buffers[index] = buffer
        buffer.narrow(2, n_past, end - n_past).copy_(new)
        return buffer.narrow(2, 0, end)
