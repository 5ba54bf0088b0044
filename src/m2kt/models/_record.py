"""Record and modify hidden states with hooks.

``output_hidden_states=True`` is not used: it returns the state *before* an adapter that wraps a decoder block.
Letters: B batch, T tokens, D width, N selected positions; local: P selected positions a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from m2kt._shapes import Bool, Float, Int
from m2kt.errors import ModelError

from ._layers import BlockOutput, blocks, decoder, hidden_of, replace_hidden

Store = Callable[[int, Tensor], None]


@dataclass
class Recording:
    """States of the latest forward pass: ``recording[layer]`` is (B, T, D), or the selected positions of it."""

    states: dict[int, Tensor] = field(default_factory=dict)
    select: Tensor | None = None

    def __getitem__(self, layer: int) -> Tensor:
        if layer not in self.states:
            raise ModelError(f"layer {layer} was not recorded; run a forward pass inside the context")
        return self.states[layer]

    def __contains__(self, layer: int) -> bool:
        return layer in self.states


@contextmanager
def record(
    model: nn.Module,
    layers: Iterable[int],
    *,
    select: Tensor | None = None,
    detach: bool = True,
) -> Iterator[Recording]:
    """Record hidden states of the forward passes that run in the context.

    Layer 0 is the input of the first block (embeddings with the model's scaling and positions); layer i is the output
    of block i-1, before any final norm. A model with L blocks has layers 0..L. Adapters that wrap a block are included.

    Args:
        model: a causal LM, wrapped by an adapter or not.
        layers: layers to record; negative ones count from the last.
        select: positions to record. Bool (B, T) gives states (N, D) in row-major order; integer (B, P) gives
            (B, P, D). ``recording.select`` may be replaced between forward passes.
        detach: detach states from the autograd graph.
    """
    members = blocks(model)
    depth = len(members)
    recording = Recording(select=select)

    def store(layer: int, state: Tensor) -> None:
        state = state.detach() if detach else state
        recording.states[layer] = _selected(state, recording.select)

    handles = []
    try:
        for layer in sorted({_layer_index(layer, depth) for layer in layers}):
            if layer == 0:
                handles.append(members[0].register_forward_pre_hook(_input_hook(store), with_kwargs=True))
            else:
                handles.append(members[layer - 1].register_forward_hook(_output_hook(store, layer)))
        yield recording
    finally:
        for handle in handles:
            handle.remove()


class _PassEnded(Exception):
    """Ends a forward pass early; caught by ``run_until``."""


def run_until(block: nn.Module, model: nn.Module, **arguments: Tensor | Cache | bool | None) -> None:
    """A forward pass of ``model`` that ends after ``block`` and the hooks registered on it before."""
    handle = block.register_forward_hook(_end_pass)
    try:
        model(**arguments)
    except _PassEnded:
        pass
    finally:
        handle.remove()


def _end_pass(*_: object) -> None:
    raise _PassEnded


def states_at(
    model: nn.Module, layers: Iterable[int], *, select: Tensor | None = None, **arguments: Tensor | Cache | None
) -> Recording:
    """What :func:`record` gets from one pass that ends at the deepest of the layers.

    Args:
        arguments: of the forward pass, such as ``input_ids`` and ``attention_mask``.
    """
    members = blocks(model)
    indices = {_layer_index(layer, len(members)) for layer in layers}
    with record(model, indices, select=select) as recording:
        run_until(members[max(1, *indices) - 1], decoder(model), **arguments, use_cache=False)
    return recording


@contextmanager
def add_to_states(model: nn.Module, layer: int, vector_D: Float[Tensor, " D"]) -> Iterator[None]:
    """Add a vector to all states of a layer, numbered as in :func:`record`, within the context."""
    members = blocks(model)
    index = _layer_index(layer, len(members))

    def before_first(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (args[0] + vector_D, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": kwargs["hidden_states"] + vector_D}

    def after(_module: nn.Module, _args: object, output: BlockOutput) -> BlockOutput:
        return replace_hidden(output, hidden_of(output) + vector_D)

    if index == 0:
        handle = members[0].register_forward_pre_hook(before_first, with_kwargs=True)
    else:
        handle = members[index - 1].register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


def _layer_index(layer: int, depth: int) -> int:
    index = layer + depth + 1 if layer < 0 else layer
    if not 0 <= index <= depth:
        raise ModelError(f"layer {layer} is outside 0..{depth} (0 = embeddings, i = after block i-1)")
    return index


def _output_hook(store: Store, layer: int) -> Callable[..., None]:
    def hook(_module: nn.Module, _args: object, output: BlockOutput) -> None:
        store(layer, hidden_of(output))

    return hook


def _input_hook(store: Store) -> Callable[..., None]:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        store(0, args[0] if args else kwargs["hidden_states"])

    return hook


def _selected(
    state: Float[Tensor, "B T D"], select: Bool[Tensor, "B T"] | Int[Tensor, "B P"] | None
) -> Float[Tensor, "*_ D"]:
    if select is None:
        return state
    select = select.to(state.device)
    if select.dtype == torch.bool:
        return state[select]
    return torch.take_along_dim(state, select[..., None], dim=1)
