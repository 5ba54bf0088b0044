"""Forward passes: padding, positions, logits at selected positions, attention patterns.

Letters: B batch, T tokens, H heads, V vocabulary, N selected positions; local: P selected positions a row.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import Cache

from m2kt._shapes import Bool, Float, Int, Shaped
from m2kt.errors import ModelError


def pad_batch(
    sequences: Sequence[Sequence[int]],
    pad_id: int,
    *,
    side: Literal["left", "right"] = "left",
    device: torch.device | str | None = None,
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Token ids and attention mask, padded on ``side`` to the longest sequence."""
    length_B = torch.tensor([len(s) for s in sequences])
    longest = int(length_B.max())
    first_B = longest - length_B if side == "left" else torch.zeros_like(length_B)
    at_T = torch.arange(longest)
    real_BT = (at_T >= first_B[:, None]) & (at_T < (first_B + length_B)[:, None])
    ids_BT = torch.full(real_BT.shape, pad_id, dtype=torch.long)
    ids_BT[real_BT] = torch.tensor(list(chain.from_iterable(sequences)), dtype=torch.long)
    return ids_BT.to(device), real_BT.long().to(device)


def forward_arguments(
    model: nn.Module, input_ids: Int[Tensor, "B T"], attention_mask: Shaped[Tensor, "B _"] | None
) -> dict[str, Tensor]:
    """Keyword arguments of a forward pass, with position ids that skip the padding.

    ``generate`` derives positions from the mask, a plain forward does not: a left-padded GPT-2 would silently use
    wrong position embeddings.
    """
    arguments: dict[str, Tensor] = {"input_ids": input_ids}
    if attention_mask is not None:
        arguments["attention_mask"] = attention_mask
        if _takes(model, "position_ids"):
            place_BT = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
            arguments["position_ids"] = place_BT[:, -input_ids.shape[1] :]  # the mask covers a cache too
    return arguments


def next_token_logits(
    model: nn.Module,
    input_ids: Int[Tensor, "B T"],
    attention_mask: Shaped[Tensor, "B _"] | None,
    positions: Bool[Tensor, "B T"] | Int[Tensor, "B P"],
    *,
    past: Cache | None = None,
) -> Float[Tensor, "*_ V"]:
    """Next-token logits at selected positions, from the model's head (scaling and soft-capping included).

    Args:
        past: the cache of tokens before ``input_ids``, which the mask covers too. The pass adds to it.
        positions: bool (B, T), gives (N, V) in row-major order; or integer (B, P), gives (B, P, V).
    """
    arguments = _behind(past, forward_arguments(model, input_ids, attention_mask))
    positions = positions.to(input_ids.device)
    if _takes(model, "logits_to_keep"):
        logits: Tensor = model(**arguments, use_cache=False, logits_to_keep=positions).logits
        expected = (int(positions.sum()),) if positions.dtype == torch.bool else tuple(positions.shape)
        if tuple(logits.shape[:-1]) == expected:
            return logits
    logits = model(**arguments, use_cache=False).logits  # the model ignores logits_to_keep
    if positions.dtype == torch.bool:
        return logits[positions]
    return torch.take_along_dim(logits, positions[..., None], dim=1)


def attention_patterns(
    model: nn.Module,
    input_ids: Int[Tensor, "B T"],
    attention_mask: Shaped[Tensor, "B _"] | None,
    *,
    past: Cache | None = None,
) -> tuple[Float[Tensor, "B _ T _"], ...]:
    """Attention patterns of the layers that have attention, by key; keys of a cache come first.

    Args:
        past: the cache of tokens before ``input_ids``, which the mask covers too. The pass adds to it.

    Raises:
        ModelError: the model returned none, as sdpa and flash kernels do.
    """
    arguments = _behind(past, forward_arguments(model, input_ids, attention_mask))
    output = model(**arguments, output_attentions=True, use_cache=False)
    patterns = tuple(a for a in (getattr(output, "attentions", None) or ()) if a is not None)
    if not patterns:
        raise ModelError(
            "expected attention patterns, got none: load the model with attn='eager' (or it has no attention at all)"
        )
    return patterns


def make_head_input_contiguous(model: nn.Module) -> None:
    """Add a hook that makes the head's input contiguous. Idempotent.

    For a strided input (the last position of each row) torch copies a frozen head's weight once a row: 21 GB for
    64 rows and a vocabulary of 262,144.
    """
    get = getattr(model, "get_output_embeddings", None)
    head = get() if get is not None else None
    if isinstance(head, nn.Module) and _contiguous_input not in head._forward_pre_hooks.values():
        head.register_forward_pre_hook(_contiguous_input)


def _contiguous_input(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (args[0].contiguous(), *args[1:]) if args else args


def _behind(past: Cache | None, arguments: dict[str, Tensor]) -> dict[str, Tensor | Cache]:
    mask_BT = arguments.get("attention_mask")
    n_past, n_tokens = 0 if past is None else past.get_seq_length(), arguments["input_ids"].shape[1]
    if mask_BT is not None and mask_BT.shape[1] != n_past + n_tokens:
        raise ModelError(
            f"expected a mask of {n_past + n_tokens} tokens ({n_past} of the cache, {n_tokens} given), "
            f"got {mask_BT.shape[1]}"
        )
    return {**arguments} if past is None else {**arguments, "past_key_values": past}


def _takes(model: nn.Module, name: str) -> bool:
    """Whether the forward of the model (of the base, under adapters) has an argument."""
    unwrap = getattr(model, "get_base_model", None)
    inner = unwrap() if unwrap is not None else model
    return name in inspect.signature(inner.forward).parameters
