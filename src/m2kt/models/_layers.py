"""The parts of a decoder, found by looking and not by lists of class names."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from m2kt.errors import ModelError

UNLIMITED = 1 << 30


def text_config(model: nn.Module) -> Any:
    """The configuration of the language model itself, also inside wrappers and multimodal models."""
    config: Any = getattr(model, "config", None)
    if config is None:
        raise ModelError(f"expected a transformers model, came {type(model).__name__} without a config")
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def width(model: nn.Module) -> int:
    """D: the width of what one block hands to the next."""
    return int(text_config(model).hidden_size)


def context_length(model: nn.Module) -> int:
    """How many tokens the model can read at once; ``UNLIMITED`` where its configuration sets no end."""
    config = text_config(model)
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return UNLIMITED


def decoder(model: nn.Module) -> nn.Module:
    """The module that holds the decoder blocks and receives the tokens: it returns states before the LM head."""
    prefix = getattr(model, "base_model_prefix", "")
    backbone = getattr(model, prefix, None) if prefix else None
    return backbone if isinstance(backbone, nn.Module) else model


def cache_argument(model: nn.Module) -> str:
    """By what name passes take the cache of those before: attention and state-space models differ.

    Raises:
        ModelError: the model takes none.
    """
    parameters = inspect.signature(decoder(model).forward).parameters
    for name in ("past_key_values", "cache_params"):
        if name in parameters:
            return name
    raise ModelError(
        f"{type(decoder(model)).__name__} takes no cache: expected past_key_values or cache_params"
    )


def blocks(model: nn.Module) -> nn.ModuleList:
    """The decoder blocks: the largest outermost ``ModuleList`` whose members emit states of the model's width.

    The list itself is returned, so replacing ``blocks(model)[i]`` wraps that block. Wrapped blocks are found again.
    """
    candidates = _outermost_lists(model)
    expected = getattr(text_config(model), "num_hidden_layers", None)
    fitting = [c for c in candidates if len(c) == expected]
    if len(fitting) == 1:
        return fitting[0]
    for candidate in candidates:  # several stacks (experts, towers, adapters): let a tiny forward pass decide
        if _emits_states(model, candidate):
            return candidate
    raise ModelError(
        f"found no list of decoder blocks in {type(model).__name__}: expected a ModuleList whose members "
        f"return states of width {width(model)}"
    )


def hidden_of(output: Any) -> Tensor:
    """The hidden state in what a block returned: a bare tensor, or the first member of a tuple, list or mapping."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, dict) and output:
        output = tuple(output.values())
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    raise ModelError(f"expected a block to return a hidden state, came {type(output).__name__}")


def replace_hidden(output: Any, hidden: Tensor) -> Any:
    """``output`` with its hidden state exchanged, in the same container."""
    if isinstance(output, Tensor):
        return hidden
    if isinstance(output, tuple):
        return (hidden, *output[1:])
    if isinstance(output, list):
        return [hidden, *output[1:]]
    raise ModelError(f"expected a tensor, tuple or list from a block, came {type(output).__name__}")


def linear_projections(block: nn.Module) -> dict[str, nn.Module]:
    """Linear maps inside a block by their name: ``nn.Linear`` and the transposed ``Conv1D`` of GPT-2."""
    from transformers.pytorch_utils import Conv1D

    return {name: module for name, module in block.named_modules() if isinstance(module, (nn.Linear, Conv1D))}


def _outermost_lists(model: nn.Module) -> list[nn.ModuleList]:
    found: list[tuple[str, nn.ModuleList]] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(outer + ".") for outer, _ in found)
        if isinstance(module, nn.ModuleList) and len(module) and not inside:
            found.append((name, module))
    sizes = {id(m): sum(p.numel() for p in m.parameters()) for _, m in found}
    return sorted((m for _, m in found), key=lambda m: -sizes[id(m)])


@torch.no_grad()
def _emits_states(model: nn.Module, candidate: nn.ModuleList) -> bool:
    widths: list[int] = []

    def look(_module: nn.Module, _args: Any, output: Any) -> None:
        try:
            state = hidden_of(output)
        except ModelError:
            return
        if state.ndim == 3:
            widths.append(state.shape[-1])

    handles = [member.register_forward_hook(look) for member in candidate]
    try:
        ids = torch.zeros(1, 2, dtype=torch.long, device=_device(model))
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return len(widths) == len(candidate) and set(widths) == {width(model)}


def _device(model: nn.Module) -> torch.device:
    """Where token ids go: the device of the input embeddings."""
    get: Any = getattr(model, "get_input_embeddings", None)
    parameters = get().parameters() if get is not None else model.parameters()
    return next(iter(parameters)).device
