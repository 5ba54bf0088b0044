"""The parts of a decoder, found by their structure instead of by class name.

Letters: B batch, T tokens.
"""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from m2kt.errors import ModelError

UNLIMITED = 1 << 30
BlockOutput = Tensor | tuple[object, ...] | list[object] | dict[str, object]
"""What decoder blocks return: the hidden state alone, or first in a container."""


def text_config(model: nn.Module) -> PreTrainedConfig:
    """The language model's configuration, also inside wrappers and multimodal models."""
    config = getattr(model, "config", None)
    if config is None:
        raise ModelError(f"expected a transformers model, got {type(model).__name__} without a config")
    text: PreTrainedConfig = config.get_text_config() if hasattr(config, "get_text_config") else config
    return text


def width(model: nn.Module) -> int:
    """Width of the hidden states between blocks."""
    return int(text_config(model).hidden_size)


def context_length(model: nn.Module) -> int:
    """Maximum number of tokens of a pass; ``UNLIMITED`` if the configuration has none."""
    config = text_config(model)
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return UNLIMITED


def decoder(model: nn.Module) -> nn.Module:
    """The backbone: it takes tokens, runs the blocks, and returns states before the LM head."""
    prefix = getattr(model, "base_model_prefix", "")
    backbone = getattr(model, prefix, None) if prefix else None
    return backbone if isinstance(backbone, nn.Module) else model


def cache_argument(model: nn.Module) -> str:
    """Name of the forward argument that is the cache: attention and state-space models differ.

    Raises:
        ModelError: the model has no such argument.
    """
    parameters = inspect.signature(decoder(model).forward).parameters
    for name in ("past_key_values", "cache_params"):
        if name in parameters:
            return name
    raise ModelError(f"{type(decoder(model)).__name__} takes no cache: expected past_key_values or cache_params")


def blocks(model: nn.Module) -> nn.ModuleList:
    """The decoder blocks: the largest outermost ``ModuleList`` whose members return states of the model's width.

    It is the list itself, so that assigning ``blocks(model)[i]`` wraps a block. Wrapped blocks are found too.
    """
    candidates = _outermost_lists(model)
    expected = getattr(text_config(model), "num_hidden_layers", None)
    of_expected_length = [c for c in candidates if len(c) == expected]
    if len(of_expected_length) == 1:
        return of_expected_length[0]
    for candidate in candidates:  # several stacks (experts, towers, adapters): decided by a tiny forward pass
        if _emits_states(model, candidate):
            return candidate
    raise ModelError(
        f"found no list of decoder blocks in {type(model).__name__}: expected a ModuleList whose members "
        f"return states of width {width(model)}"
    )


def hidden_of(output: BlockOutput) -> Tensor:
    """The hidden state in a block's output: a bare tensor, or the first item of a tuple, list or mapping."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, dict) and output:
        output = tuple(output.values())
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    raise ModelError(f"expected a block to return a hidden state, got {type(output).__name__}")


def replace_hidden(output: BlockOutput, hidden: Tensor) -> BlockOutput:
    """``output`` with its hidden state replaced, in the same container."""
    if isinstance(output, Tensor):
        return hidden
    if isinstance(output, tuple):
        return (hidden, *output[1:])
    if isinstance(output, list):
        return [hidden, *output[1:]]
    raise ModelError(f"expected a tensor, tuple or list from a block, got {type(output).__name__}")


def linear_projections(block: nn.Module) -> dict[str, nn.Module]:
    """Linear layers of a block by name: ``nn.Linear`` and the transposed ``Conv1D`` of GPT-2."""
    from transformers.pytorch_utils import Conv1D

    return {name: module for name, module in block.named_modules() if isinstance(module, (nn.Linear, Conv1D))}


def _outermost_lists(model: nn.Module) -> list[nn.ModuleList]:
    lists: list[tuple[str, nn.ModuleList]] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(outer + ".") for outer, _ in lists)
        if isinstance(module, nn.ModuleList) and len(module) and not inside:
            lists.append((name, module))
    sizes = {id(m): sum(p.numel() for p in m.parameters()) for _, m in lists}
    return sorted((m for _, m in lists), key=lambda m: -sizes[id(m)])


@torch.no_grad()
def _emits_states(model: nn.Module, candidate: nn.ModuleList) -> bool:
    widths: list[int] = []

    def collect(_module: nn.Module, _args: object, output: BlockOutput) -> None:
        try:
            state = hidden_of(output)
        except ModelError:
            return
        if state.ndim == 3:
            widths.append(state.shape[-1])

    handles = [member.register_forward_hook(collect) for member in candidate]
    try:
        ids = torch.zeros(1, 2, dtype=torch.long, device=input_device(model))
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return len(widths) == len(candidate) and set(widths) == {width(model)}


def input_device(model: nn.Module) -> torch.device:
    """Device for token ids: that of the input embeddings."""
    get = getattr(model, "get_input_embeddings", None)
    parameters = get().parameters() if get is not None else model.parameters()
    return next(iter(parameters)).device
