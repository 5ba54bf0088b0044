"""Greedy generation in batches, until every row has written the stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from m2kt.errors import ModelError

from ._forward import input_device, pad_batch
from ._layers import context_length
from ._load import LoadedModel
from ._text import piece_bytes, special_ids, text_of


@dataclass(frozen=True)
class Completion:
    """What the model wrote after one prompt."""

    ids: list[int]
    """Token ids up to and with the one that finished the stop string."""
    text: str
    """Their text; may go on a little after the stop string when a token straddles its end."""
    stopped: bool
    """Whether the stop string was reached within ``max_new_tokens``."""


class _StopText(StoppingCriteria):
    """Says per row whether the stop string has been written; remembers where.

    Text is looked at in rows alone whose latest token may end the stop string: such tokens are few.
    """

    def __init__(self, tokenizer: Any, stop: str | None, start: int, rows: int) -> None:
        self._tokenizer, self._stop, self._start = tokenizer, (stop or "").encode(), start
        self._may_end: dict[int, bool] = {}
        self.end_R = np.zeros(
            rows, dtype=int
        )  # tokens up to and with the stop string; 0 where it was not written yet

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        if self._stop:
            latest_R = input_ids[:, -1].cpu().numpy()
            open_R = self.end_R == 0
            for token in set(latest_R[open_R].tolist()):
                if token not in self._may_end:
                    self._may_end[token] = self._stop[-1:] in piece_bytes(self._tokenizer, token)
                if not self._may_end[token]:
                    continue
                rows = np.flatnonzero(open_R & (latest_R == token)).tolist()
                for row, written in zip(rows, input_ids[rows, self._start :].tolist(), strict=True):
                    if self._stop in self._tail(written):
                        self.end_R[row] = len(written)
        return torch.tensor(self.end_R > 0, device=input_ids.device)

    def _tail(self, written: list[int]) -> bytes:
        """As much of the text as a stop string can reach that ends within the latest token."""
        text = piece_bytes(self._tokenizer, written[-1])
        enough = len(text) + len(self._stop) - 1
        for token in reversed(written[:-1]):
            if len(text) >= enough:
                break
            text = piece_bytes(self._tokenizer, token) + text
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
    """Greedy completions of token prompts, in the order given.

    Prompts are sorted by length for batching, left-padded, and decoded with the key-value cache; a batch ends when
    all its rows have written the stop string.

    Args:
        loaded: the model; ``loaded.model`` may have been wrapped by an adapter since.
        prompts: token ids, special prefix included (see ``encode_prompt``).
        max_new_tokens: give up after so many.
        stop_string: the text that ends an answer; None means the end-of-text token alone.
        batch_size: rows at once.
        progress: called with (done, total) after each batch.
    """
    room = context_length(loaded.model)
    longest = max((len(p) for p in prompts), default=0)
    if longest + 1 > room:
        raise ModelError(f"a prompt of {longest} tokens does not fit {loaded.name}: its context is {room}")
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
    tokenizer: Any = loaded.tokenizer
    model: Any = loaded.model
    ids_BT, mask_BT = pad_batch(prompts, loaded.pad_id, device=input_device(model))
    length = ids_BT.shape[1]
    stop = _StopText(tokenizer, stop_string, length, len(prompts))
    end_ids = _end_ids(model, tokenizer)
    config = GenerationConfig(
        max_new_tokens=max(1, min(max_new_tokens, context_length(model) - length)),
        do_sample=False,
        num_beams=1,
        pad_token_id=loaded.pad_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=sorted(end_ids) or None,
    )
    output_BT = model.generate(
        input_ids=ids_BT,
        attention_mask=mask_BT,
        generation_config=config,
        stopping_criteria=StoppingCriteriaList([stop]),
    )
    return [
        _completion(tokenizer, row[length:], end, end_ids)
        for row, end in zip(output_BT.tolist(), stop.end_R.tolist(), strict=True)
    ]


def _end_ids(model: Any, tokenizer: Any) -> set[int]:
    """What ends a text, as model and tokenizer say; an id that writes text is none."""
    shipped = getattr(model.generation_config, "eos_token_id", None)
    listed = shipped if isinstance(shipped, list) else [shipped]
    return {i for i in [*listed, tokenizer.eos_token_id] if i is not None} & special_ids(tokenizer)


def _completion(tokenizer: Any, ids: list[int], end: int, end_ids: set[int]) -> Completion:
    over = next((i for i, token in enumerate(ids) if token in end_ids), len(ids))
    ids = ids[: end or over]
    return Completion(ids=ids, text=text_of(tokenizer, ids), stopped=end > 0)
