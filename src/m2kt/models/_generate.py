"""Greedy generation in batches, until every row has generated a stop.

Letters: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    Cache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from m2kt._end import END
from m2kt._shapes import Float
from m2kt.errors import ModelError

from ._ends import Ends, answer_ends
from ._forward import pad_batch
from ._layers import context_length, input_device
from ._load import LoadedModel
from ._prefix import Prefix, with_prefix
from ._text import text_of, token_bytes


@dataclass(frozen=True)
class Completion:
    """A model's answer to one prompt."""

    ids: list[int]
    """Token ids up to and including the one that completed the stop."""
    text: str
    """Their text; longer than the stop string's end if a token straddles it. A token that was the stop is ``END``."""
    stop: int | None
    """Index of the stop that was generated within ``max_new_tokens``; None: none was."""
    ended_by: str | None = None
    """Name of an end token of the model that is none of the stops, if it ended the answer."""

    @property
    def stopped(self) -> bool:
        """Whether the answer came to one of its stops."""
        return self.stop is not None


class _StopTexts(StoppingCriteria):
    """Stops a row at a stop's text and stores where, and which.

    Text is decoded only in rows whose latest token contains the last byte of such a text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: Mapping[int, str], start: int, rows: int) -> None:
        self._tokenizer, self._start = tokenizer, start
        self._texts = {index: text.encode() for index, text in texts.items()}
        self._may_end: dict[int, bool] = {}
        self.end_B = np.zeros(rows, dtype=int)  # tokens up to the stop's end; 0: not generated yet
        self.stop_B = np.zeros(rows, dtype=int)

    def __call__(self, input_ids: Tensor, scores: object, **kwargs: object) -> Tensor:
        if self._texts:
            latest_B = input_ids[:, -1].cpu().numpy()
            open_B = self.end_B == 0
            for token in set(latest_B[open_B].tolist()):
                if not self._ends_a_text(token):
                    continue
                rows = np.flatnonzero(open_B & (latest_B == token)).tolist()
                for row, generated in zip(rows, input_ids[rows, self._start :].tolist(), strict=True):
                    found = self._found(generated)
                    if found is not None:
                        self.end_B[row], self.stop_B[row] = len(generated), found
        return torch.tensor(self.end_B > 0, device=input_ids.device)

    def _ends_a_text(self, token: int) -> bool:
        if token not in self._may_end:
            piece = token_bytes(self._tokenizer, token)
            self._may_end[token] = any(text[-1:] in piece for text in self._texts.values())
        return self._may_end[token]

    def _found(self, generated: list[int]) -> int | None:
        """The stop that begins first among those that end within the latest token."""
        tails = {index: self._tail(generated, text) for index, text in self._texts.items()}
        places = {i: len(tail) - tail.find(self._texts[i]) for i, tail in tails.items() if self._texts[i] in tail}
        return max(places, key=places.__getitem__, default=None)

    def _tail(self, generated: list[int], stop: bytes) -> bytes:
        """The end of the text, long enough for a stop that ends within the latest token."""
        text = token_bytes(self._tokenizer, generated[-1])
        needed = len(text) + len(stop) - 1
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
    ends: Ends | str | None,
    *,
    batch_size: int = 64,
    prefix: Prefix | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Completion]:
    """Greedy completions of tokenised prompts, in the order given.

    Prompts are sorted by length for batching, left-padded, and decoded with the key-value cache; a batch ends when
    all its rows have generated a stop.

    Args:
        loaded: the model, with or without an adapter.
        prompts: token ids, special prefix included (see ``encode_prompt``).
        max_new_tokens: limit per row.
        ends: what ends an answer; a text alone, or None for the model's end tokens.
        batch_size: rows of a batch.
        prefix: what the model computed for the tokens that the prompts begin with; batches in which one does not are
            computed whole.
        progress: called with (done, total) after each batch.
    """
    ends = answer_ends(loaded, ends)
    context = context_length(loaded.model)
    longest = max((len(p) for p in prompts), default=0)
    if longest + 1 > context:
        raise ModelError(f"a prompt of {longest} tokens does not fit {loaded.name}: its context is {context}")
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    done: dict[int, Completion] = {}
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        batch = _generate_batch(loaded, [prompts[i] for i in rows], max_new_tokens, ends, prefix)
        done.update(zip(rows, batch, strict=True))
        if progress is not None:
            progress(len(done), len(order))
    return [done[i] for i in range(len(prompts))]


def _generate_batch(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, ends: Ends, prefix: Prefix | None
) -> list[Completion]:
    tokenizer, model = loaded.tokenizer, loaded.model
    ids_BT, mask_BT, past = _padded(loaded, prompts, prefix)
    length = ids_BT.shape[1]
    stop = _StopTexts(tokenizer, ends.texts, length, len(prompts))
    config = GenerationConfig(
        max_new_tokens=max(1, min(max_new_tokens, context_length(model) - length)),
        do_sample=False,
        num_beams=1,
        pad_token_id=loaded.pad_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=sorted(ends.own | ends.tokens.keys()) or None,
    )
    generate: Any = model.generate  # transformers leaves it untyped
    with _no_other_end(model):
        output_BT: Tensor = generate(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([stop]),
            **past,
        )
    found = zip(output_BT.tolist(), stop.end_B.tolist(), stop.stop_B.tolist(), strict=True)
    return [_completion(tokenizer, row[length:], end, index, ends) for row, end, index in found]


def _padded(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], prefix: Prefix | None
) -> tuple[Tensor, Tensor, dict[str, Cache]]:
    """Ids and mask, padded on the left, or between a prefix and the rest; the prefix' cache as an argument."""
    device = input_device(loaded.model)
    if prefix is None or not all(map(prefix.begins, prompts)):
        return *pad_batch(prompts, loaded.pad_id, device=device), {}
    ids_BT, mask_BT = pad_batch([prompt[len(prefix.ids) :] for prompt in prompts], loaded.pad_id, device=device)
    head_BT = torch.tensor(prefix.ids, device=device).expand(len(prompts), -1)
    past = {"past_key_values": prefix.for_rows(len(prompts))}
    return torch.cat([head_BT, ids_BT], dim=1), with_prefix(prefix, mask_BT), past


class _Along(LogitsProcessor):
    """Writes a given text whatever the model would write, and keeps what it would have written."""

    def __init__(self, ids: Sequence[int], prompt: int) -> None:
        self._ids, self._prompt = ids, prompt
        self.logits: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.logits.append(scores.detach().float().cpu())
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self._ids[input_ids.shape[1] - self._prompt]] = 0.0
        return forced


@torch.no_grad()
def logits_along(
    loaded: LoadedModel, prompt: Sequence[int], answer: Sequence[int], rows: int = 1
) -> Float[Tensor, "B T V"]:
    """What a model would write at each token of an answer that somebody else wrote; on the CPU, in float32.

    Passes are those of generation: the prompt, then a token each.

    Args:
        rows: copies of the text, for models that treat rows differently.
    """
    along = _Along(answer, len(prompt))
    config = GenerationConfig(
        max_new_tokens=len(answer),
        do_sample=False,
        num_beams=1,
        pad_token_id=loaded.pad_id,
        bos_token_id=loaded.tokenizer.bos_token_id,
        eos_token_id=None,
    )
    ids_BT = torch.tensor([list(prompt)] * rows, device=input_device(loaded.model))
    generate: Any = loaded.model.generate  # transformers leaves it untyped
    with _no_other_end(loaded.model):
        generate(
            input_ids=ids_BT,
            attention_mask=torch.ones_like(ids_BT),
            generation_config=config,
            logits_processor=LogitsProcessorList([along]),
        )
    return torch.stack(along.logits, 1)


@contextmanager
def _no_other_end(model: nn.Module) -> Iterator[None]:
    """No end token of the model's own configuration: it would be used where ours has none, and may stand for text."""
    shipped = cast(GenerationConfig, model.generation_config)
    configured, shipped.eos_token_id = shipped.eos_token_id, None
    try:
        yield
    finally:
        shipped.eos_token_id = configured


def _completion(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], text_end: int, text_stop: int, ends: Ends
) -> Completion:
    """What a row wrote, without the padding behind it.

    Args:
        text_end: number of tokens up to the end of a stop's text; 0: there is none.
        text_stop: which stop that is.
    """
    if text_end:
        return Completion(ids[:text_end], _text(tokenizer, ids[:text_end]), text_stop)
    at = next((i for i, token in enumerate(ids) if token in ends.own or token in ends.tokens), len(ids))
    text, end = _text(tokenizer, ids[:at]), ids[at : at + 1]
    if not end:
        return Completion(ids, text, None)
    if end[0] in ends.tokens:
        return Completion([*ids[:at], *end], text + END, ends.tokens[end[0]])
    return Completion(ids[:at], text, None, str(tokenizer.convert_ids_to_tokens(end[0])))


def _text(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return text_of(tokenizer, ids).replace(END, "\ufffd")  # a byte that no unit of an answer may hold
