"""Forward passes: padding, positions, logits only where they are needed, attention patterns.

Letters: B sequences, T tokens, H heads, V vocabulary, N selected positions.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from m2kt.errors import ModelError

from ._layers import _device


def pad_batch(
    sequences: Sequence[Sequence[int]],
    pad_id: int,
    *,
    side: Literal["left", "right"] = "left",
    device: Any = None,
) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both BT; sequences are padded on ``side`` to the longest."""
    length_B = torch.tensor([len(s) for s in sequences])
    longest = int(length_B.max())
    first_B = longest - length_B if side == "left" else torch.zeros_like(length_B)
    at_T = torch.arange(longest)
    real_BT = (at_T >= first_B[:, None]) & (at_T < (first_B + length_B)[:, None])
    ids_BT = torch.full(real_BT.shape, pad_id, dtype=torch.long)
    ids_BT[real_BT] = torch.tensor(list(chain.from_iterable(sequences)), dtype=torch.long)
    return ids_BT.to(device), real_BT.long().to(device)


def forward_arguments(model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None) -> dict[str, Any]:
    """Keyword arguments of a forward pass, with position ids that skip the padding.

    ``generate`` counts positions from the mask, a plain forward does not: a left-padded GPT-2 would read wrong
    position embeddings without a word.
    """
    arguments: dict[str, Any] = {"input_ids": input_ids}
    if attention_mask is not None:
        arguments["attention_mask"] = attention_mask
        if _takes(model, "position_ids"):
            arguments["position_ids"] = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
    return arguments


def next_tokens(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None, positions: Tensor, **extra: Any
) -> Tensor:
    """Next-token logits at the given positions alone, by the model's own head (its scaling and capping included).

    Args:
        positions: bool (B, T), gives (N, V) in row-major order; or integer (B, P), gives (B, P, V).
        extra: further forward arguments, such as ``past_key_values``.
    """
    arguments = forward_arguments(model, input_ids, attention_mask) | {"use_cache": False} | extra
    positions = positions.to(input_ids.device)
    if _takes(model, "logits_to_keep"):
        logits: Tensor = model(**arguments, logits_to_keep=positions).logits
        wanted = (int(positions.sum()),) if positions.dtype == torch.bool else tuple(positions.shape)
        if tuple(logits.shape[:-1]) == wanted:
            return logits
    logits = model(**arguments).logits  # a head of its own making: all logits, then pick
    if positions.dtype == torch.bool:
        return logits[positions]
    return torch.take_along_dim(logits, positions[..., None], dim=1)


def attention_patterns(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None
) -> tuple[Tensor, ...]:
    """Attention of every layer that has one, each BHTT.

    Raises:
        ModelError: the model returned none; sdpa and flash kernels do so silently.
    """
    arguments = forward_arguments(model, input_ids, attention_mask)
    output = model(**arguments, output_attentions=True, use_cache=False)
    patterns = tuple(a for a in (getattr(output, "attentions", None) or ()) if a is not None)
    if not patterns:
        raise ModelError(
            "asked for attention patterns, none came: load the model with attn='eager' "
            "(or it has no attention at all)"
        )
    return patterns


def hand_over_whole(model: nn.Module) -> None:
    """Hands states to the head in one piece. Done once a model.

    A frozen head over the last states alone (a strided view) multiplies by as many copies of its weight as there
    are rows: 21 GB and most of the time, for 64 rows and a vocabulary of 262,144.
    """
    get: Any = getattr(model, "get_output_embeddings", None)
    head = get() if get is not None else None
    if isinstance(head, nn.Module) and _in_one_piece not in head._forward_pre_hooks.values():
        head.register_forward_pre_hook(_in_one_piece)


def _in_one_piece(_module: nn.Module, args: tuple[Any, ...]) -> Any:
    return (args[0].contiguous(), *args[1:]) if args else args


def _takes(model: nn.Module, name: str) -> bool:
    """Whether the model's forward (that of the innermost model, under adapters) takes an argument."""
    unwrap: Any = getattr(model, "get_base_model", None)
    inner = unwrap() if unwrap is not None else model
    return name in inspect.signature(inner.forward).parameters


def input_device(model: nn.Module) -> torch.device:
    """Where token ids have to be."""
    return _device(model)
