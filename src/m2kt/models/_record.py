"""Recording and moving hidden states with our own hooks.

``output_hidden_states=True`` is not used: it returns the value *before* an adapter that wraps a whole decoder block.
Letters: B sequences, T tokens, D width, N selected positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from m2kt.errors import ModelError

from ._layers import blocks, decoder, hidden_of, replace_hidden


@dataclass
class Recording:
    """States by layer, of the latest forward pass: ``recording[layer]`` is BTD, or what ``select`` left of it."""

    states: dict[int, Tensor] = field(default_factory=dict)
    select: Tensor | None = None

    def __getitem__(self, layer: int) -> Tensor:
        if layer not in self.states:
            raise ModelError(f"layer {layer} was not recorded; a forward pass must run inside the context")
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
    """Capture hidden states while forward passes run in the context.

    Layer 0 is what enters the first block (the embeddings, scaled and with positions as the model does it);
    layer i is what block i-1 returns, before any final norm. So a model with L blocks has layers 0..L, and
    injecting "after block i-1" and reading "layer i" mean the same place. Adapters that wrap a block are included.

    Args:
        model: a causal LM, wrapped by an adapter or not.
        layers: which layers to keep; negative ones count from the last.
        select: only these positions are kept. Bool (B, T) gives states (N, D) in row-major order; integer (B, P)
            gives (B, P, D). ``recording.select`` may be exchanged between forward passes.
        detach: drop the gradient graph (keep it to train through the states).
    """
    members = blocks(model)
    depth = len(members)
    recording = Recording(select=select)

    def keep(layer: int, state: Tensor) -> None:
        state = state.detach() if detach else state
        recording.states[layer] = _selected(state, recording.select)

    handles = []
    try:
        for layer in sorted({_layer_index(layer, depth) for layer in layers}):
            if layer == 0:
                handles.append(members[0].register_forward_pre_hook(_input_hook(keep), with_kwargs=True))
            else:
                handles.append(members[layer - 1].register_forward_hook(_output_hook(keep, layer)))
        yield recording
    finally:
        for handle in handles:
            handle.remove()


class _Enough(Exception):
    """Leaves a forward pass whose rest nobody needs; never leaves ``run_until``."""


def run_until(block: nn.Module, model: nn.Module, **arguments: Any) -> None:
    """A forward pass of ``model`` that ends as soon as ``block`` has run, hooks registered earlier included."""
    handle = block.register_forward_hook(_leave)
    try:
        model(**arguments)
    except _Enough:
        pass
    finally:
        handle.remove()


def _leave(*_: Any) -> None:
    raise _Enough


def states_at(
    model: nn.Module, layers: Iterable[int], *, select: Tensor | None = None, **arguments: Any
) -> Recording:
    """What :func:`record` keeps of one pass that goes no further than the deepest of the layers.

    Args:
        arguments: of the forward pass, such as ``input_ids`` and ``attention_mask``.
    """
    members = blocks(model)
    wanted = {_layer_index(layer, len(members)) for layer in layers}
    with record(model, wanted, select=select) as recording:
        run_until(members[max(1, *wanted) - 1], decoder(model), **arguments, use_cache=False)
    return recording


@contextmanager
def moved(model: nn.Module, layer: int, by_D: Tensor) -> Iterator[None]:
    """Adds a vector to every state of one layer, numbered as in :func:`record`, while the context lasts."""
    members = blocks(model)
    index = _layer_index(layer, len(members))

    def entering(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (args[0] + by_D, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": kwargs["hidden_states"] + by_D}

    def leaving(_module: nn.Module, _args: Any, output: Any) -> Any:
        return replace_hidden(output, hidden_of(output) + by_D)

    if index == 0:
        handle = members[0].register_forward_pre_hook(entering, with_kwargs=True)
    else:
        handle = members[index - 1].register_forward_hook(leaving)
    try:
        yield
    finally:
        handle.remove()


def _layer_index(layer: int, depth: int) -> int:
    index = layer + depth + 1 if layer < 0 else layer
    if not 0 <= index <= depth:
        raise ModelError(f"layer {layer} is outside 0..{depth} (0 = embeddings, i = after block i-1)")
    return index


def _output_hook(keep: Any, layer: int) -> Any:
    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        keep(layer, hidden_of(output))

    return hook


def _input_hook(keep: Any) -> Any:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(0, args[0] if args else kwargs["hidden_states"])

    return hook


def _selected(state: Tensor, select: Tensor | None) -> Tensor:
    if select is None:
        return state
    select = select.to(state.device)
    if select.dtype == torch.bool:
        return state[select]
    return torch.take_along_dim(state, select[..., None], dim=1)
