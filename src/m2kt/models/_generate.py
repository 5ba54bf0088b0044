"""Greedy generation in batches, until every row has generated the stop string.

Letters: B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from m2kt.errors import ModelError

from ._forward import pad_batch
from ._layers import context_length, input_device
from ._load import LoadedModel
from ._text import special_ids, text_of, token_bytes


@dataclass(frozen=True)
class Completion:
    """A model's answer to one prompt."""

    ids: list[int]
    """Token ids up to and including the one that completed the stop string."""
    text: str
    """Their text; longer than the stop string's end if a token straddles it."""
    stopped: bool
    """Whether the stop string was generated within ``max_new_tokens``."""


class _StopString(StoppingCriteria):
    """Stops a row at the stop string and stores where.

    Text is decoded only in rows whose latest token contains the stop string's last byte.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: str | None, start: int, rows: int) -> None:
        self._tokenizer, self._stop, self._start = tokenizer, (stop or "").encode(), start
        self._may_end: dict[int, bool] = {}
        self.end_B = np.zeros(rows, dtype=int)  # tokens up to the stop string's end; 0: not generated yet

    def __call__(self, input_ids: Tensor, scores: object, **kwargs: object) -> Tensor:
        if self._stop:
            latest_B = input_ids[:, -1].cpu().numpy()
            open_B = self.end_B == 0
            for token in set(latest_B[open_B].tolist()):
                if token not in self._may_end:
                    self._may_end[token] = self._stop[-1:] in token_bytes(self._tokenizer, token)
                if not self._may_end[token]:
                    continue
                rows = np.flatnonzero(open_B & (latest_B == token)).tolist()
                for row, generated in zip(rows, input_ids[rows, self._start :].tolist(), strict=True):
                    if self._stop in self._tail(generated):
                        self.end_B[row] = len(generated)
        return torch.tensor(self.end_B > 0, device=input_ids.device)

    def _tail(self, generated: list[int]) -> bytes:
        """The end of the text, long enough for a stop string that ends within the latest token."""
        text = token_bytes(self._tokenizer, generated[-1])
        needed = len(text) + len(self._stop) - 1
        for token in reversed(generated[:-1]):
            if len(text) >= needed:
                break
            text = token_bytes(self._tokenizer, token) + text
        return text


@torch.no_grad()
def generate_greedy(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stop_string: str | None,
    *,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> list[Completion]:
    """Greedy completions of tokenised prompts, in the order given.

    Prompts are sorted by length for batching, left-padded, and decoded with the key-value cache; a batch ends when
    all its rows have generated the stop string.

    Args:
        loaded: the model, with or without an adapter.
        prompts: token ids, special prefix included (see ``encode_prompt``).
        max_new_tokens: limit per row.
        stop_string: text that ends an answer; None: only the end-of-text token does.
        batch_size: rows of a batch.
        progress: called with (done, total) after each batch.
    """
    context = context_length(loaded.model)
    longest = max((len(p) for p in prompts), default=0)
    if longest + 1 > context:
        raise ModelError(f"a prompt of {longest} tokens does not fit {loaded.name}: its context is {context}")
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    done: dict[int, Completion] = {}
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        batch = _generate_batch(loaded, [prompts[i] for i in rows], max_new_tokens, stop_string)
        done.update(zip(rows, batch, strict=True))
        if progress is not None:
            progress(len(done), len(order))
    return [done[i] for i in range(len(prompts))]


def _generate_batch(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop_string: str | None
) -> list[Completion]:
    tokenizer, model = loaded.tokenizer, loaded.model
    ids_BT, mask_BT = pad_batch(prompts, loaded.pad_id, device=input_device(model))
    length = ids_BT.shape[1]
    stop = _StopString(tokenizer, stop_string, length, len(prompts))
    end_ids = _end_ids(model, tokenizer)
    config = GenerationConfig(
        max_new_tokens=max(1, min(max_new_tokens, context_length(model) - length)),
        do_sample=False,
        num_beams=1,
        pad_token_id=loaded.pad_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=sorted(end_ids) or None,
    )
    generate: Any = model.generate  # transformers leaves it untyped
    output_BT: Tensor = generate(
        input_ids=ids_BT,
        attention_mask=mask_BT,
        generation_config=config,
        stopping_criteria=StoppingCriteriaList([stop]),
    )
    return [
        _completion(tokenizer, row[length:], end, end_ids)
        for row, end in zip(output_BT.tolist(), stop.end_B.tolist(), strict=True)
    ]


def _end_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """End-of-text ids of model and tokenizer, without ids that stand for text."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return {i for i in [*ids, tokenizer.eos_token_id] if i is not None} & special_ids(tokenizer)


def _completion(tokenizer: PreTrainedTokenizerBase, ids: list[int], end: int, end_ids: set[int]) -> Completion:
    first_end = next((i for i, token in enumerate(ids) if token in end_ids), len(ids))
    ids = ids[: end or first_end]
    return Completion(ids=ids, text=text_of(tokenizer, ids), stopped=end > 0)
