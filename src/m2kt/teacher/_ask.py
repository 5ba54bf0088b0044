"""All questions to the teacher pass through here: answered prompts, forced traces, recorded states. It counts them.

Legend: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from m2kt.errors import ExtractionError
from m2kt.models import (
    LoadedModel,
    context_length,
    encode_prompt,
    encode_units,
    generate_greedy,
    leading_space,
    next_tokens,
    pad_batch,
    pieces,
)
from m2kt.probes import ProbeSpec, Prompt
from m2kt.teacher._pool import Answer

Progress = Callable[[str, int, int], None]  # (stage, done, total)
TOKENS_A_BATCH = 4_096  # more fall out of a processor's caches, and ask for their memory afresh
TOKENS_ANSWERED = 16_384  # held in key-value caches at once: what runs is a token of each row
LOGITS_A_BATCH = 2**28  # tokens x V at most: a large vocabulary would otherwise need gigabytes


@dataclass(frozen=True)
class Forced:
    """A trace in the teacher's tokens."""

    ids: list[int]
    unit_of_token: list[int]
    tokens_of_unit: list[list[int]]
    content: list[list[int]]  # per unit: tokens that carry more than the leading space
    first_answered: int  # the token that predicts the answer's first


class Teacher:
    """A loaded teacher with its spec, and the number of sequences it has been shown."""

    def __init__(self, loaded: LoadedModel, spec: ProbeSpec, progress: Progress | None = None) -> None:
        self.loaded = loaded
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.spec = spec
        self.passes = 0
        self.room = 0  # tokens that the last answers could have
        self.progress: Progress = progress or (lambda stage, done, total: None)
        self.device = next(self.model.parameters()).device
        self.context = context_length(self.model)
        pad = self.tokenizer.pad_token_id
        self.pad = int(pad if pad is not None else 0)
        self._forced: dict[tuple[tuple[str, ...], int], Forced] = {}

    # -- asking ---------------------------------------------------------------------------------------------------
    def answer(self, prompts: Sequence[Prompt], stage: str = "asking") -> tuple[list[Answer], int]:
        """Greedy answers, and how many prompts never reached the stop string (they are left out)."""
        if not prompts:
            return [], 0
        encoded = [encode_prompt(self.tokenizer, p.text) for p in prompts]
        longest = max(map(len, encoded))
        room = self.context - longest
        if room < 1:
            raise ExtractionError(
                f"a prompt has {longest} tokens, the teacher's context holds {self.context}: shorten the templates"
            )
        budget = min(self.spec.max_new_tokens or 256, room)
        self.room = budget
        answers: list[Answer] = []
        unstopped = 0
        size = max(1, TOKENS_ANSWERED // (longest + budget // 2))
        order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
        for start in range(0, len(order), size):
            chunk = order[start : start + size]
            batch = [encoded[i] for i in chunk]
            done = generate_greedy(self.loaded, batch, budget, self.spec.stop, batch_size=size)
            self.passes += len(chunk)
            for i, completion in zip(chunk, done, strict=True):
                if not completion.stopped:
                    unstopped += 1
                    continue
                text = self.spec.completion_text(completion.text)
                answers.append(Answer(prompts[i], text, self._cuts(completion.ids)))
            self.progress(stage, min(start + size, len(order)), len(order))
        return answers, unstopped

    def _cuts(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Character offsets at which tokens end; a token that ends within a character ends nowhere."""
        pieces_T = pieces(self.tokenizer, ids)
        if all(map(bytes.isascii, pieces_T)):
            return tuple(accumulate(map(len, pieces_T)))
        cuts = []
        for written in accumulate(pieces_T):
            try:
                cuts.append(len(written.decode()))
            except UnicodeDecodeError:
                continue
        return tuple(cuts)

    # -- forcing --------------------------------------------------------------------------------------------------
    def force(self, texts: Sequence[str], n_prompt: int) -> Forced:
        """Unit texts in the teacher's tokens: the prompt as the teacher reads it by itself, then the completion."""
        key = (tuple(texts), n_prompt)  # several stages force the same answers
        if key not in self._forced:
            self._forced[key] = self._force(texts, n_prompt)
        return self._forced[key]

    def _force(self, texts: Sequence[str], n_prompt: int) -> Forced:
        prompt = "".join(texts[:n_prompt])
        encoded = encode_units(self.tokenizer, [prompt, *texts[n_prompt:]], prompt_boundary=1)
        ends = list(accumulate(len(text.encode()) for text in texts[:n_prompt]))
        pieces_T = pieces(self.tokenizer, encoded.ids)
        owners, read = [], 0
        for piece, owner in zip(pieces_T, encoded.unit_of_token, strict=True):
            if owner != 0:
                owners.append(owner if owner < 0 else owner - 1 + n_prompt)
                continue
            # A prompt token may span two slots; it belongs to the one that it ends in.
            read += len(piece)
            owners.append(min(bisect_left(ends, read), n_prompt - 1))
        tokens: list[list[int]] = [[] for _ in texts]
        for t, unit in enumerate(owners):
            if unit >= 0:
                tokens[unit].append(t)
        content = [own[leading_space(text, own, pieces_T) :] for text, own in zip(texts, tokens, strict=True)]
        first = next((t for t, unit in enumerate(owners) if unit >= n_prompt), len(owners))
        return Forced(encoded.ids, owners, tokens, content, first - 1)

    def batches(
        self, items: Sequence[Forced], *, logits: bool = False
    ) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
        """Right-padded batches of like length: (indices into items, ids_BT, mask_BT); smaller ones for ``logits``."""
        limit = TOKENS_A_BATCH
        if logits:
            limit = min(limit, LOGITS_A_BATCH // int(self.model.get_output_embeddings().weight.shape[0]))
        order = sorted(range(len(items)), key=lambda i: len(items[i].ids))
        start = 0
        while start < len(order):
            end = start
            while end < len(order) and (end - start + 1) * len(items[order[end]].ids) <= limit:
                end += 1
            chunk = order[start : max(end, start + 1)]
            rows = [items[i].ids for i in chunk]
            ids, mask = pad_batch(rows, self.pad, side="right", device=self.device)
            self.passes += len(chunk)
            yield chunk, ids, mask
            start += len(chunk)

    @contextmanager
    def eager(self) -> Iterator[None]:
        """Eager attention for a while: other kernels return no patterns and say nothing about it."""
        before = self.model.config._attn_implementation
        self.model.set_attn_implementation("eager")
        try:
            yield
        finally:
            self.model.set_attn_implementation(before)

    def choices(
        self, items: Sequence[Forced], stage: str = "interrogating", behind: Sequence[int] | None = None
    ) -> list[NDArray[np.int32]]:
        """The teacher's next-token choice at every position that predicts an answer token, argmax over V; else -1.

        ``behind``: by item, the first position of interest.
        """

        def likeliest(logits_NV: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            return logits_NV.argmax(dim=-1).to(torch.int32)

        starts = [
            max(item.first_answered, b) for item, b in zip(items, behind or [0] * len(items), strict=True)
        ]
        asked = [range(start, len(item.ids)) for start, item in zip(starts, items, strict=True)]
        found = self._predictions(items, asked, likeliest, stage)
        unasked = [np.full(start, -1, dtype=np.int32) for start in starts]
        return [np.concatenate(parts) for parts in zip(unasked, found, strict=True)]

    def log_p(
        self, items: Sequence[Forced], tokens: Sequence[Collection[int]], stage: str
    ) -> list[dict[int, float]]:
        """log P(token | all before it) at those tokens of each item, by token; softmax over V in float32, nats."""

        def of_next(logits_NV: torch.Tensor, next_N: torch.Tensor) -> torch.Tensor:
            return logits_NV.float().log_softmax(dim=-1).gather(1, next_N[:, None])[:, 0]

        ordered = [sorted(some) for some in tokens]
        found = self._predictions(items, [[t - 1 for t in some] for some in ordered], of_next, stage)
        return [
            dict(zip(some, log_p_N.tolist(), strict=True))
            for some, log_p_N in zip(ordered, found, strict=True)
        ]

    @torch.no_grad()
    def _predictions(
        self,
        items: Sequence[Forced],
        asked: Sequence[Sequence[int]],
        read: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        stage: str,
    ) -> list[NDArray[Any]]:
        """What ``read`` makes of the logits (N, V) and next tokens (N,) at the ``asked`` positions, by item.

        Positions ascend.
        """
        found: list[NDArray[Any]] = [np.empty(0)] * len(items)
        done = 0
        for chunk, ids_BT, mask_BT in self.batches(items, logits=True):
            asked_BT = torch.zeros_like(mask_BT, dtype=torch.bool)
            for row, i in enumerate(chunk):
                asked_BT[row, list(asked[i])] = True
            next_N = ids_BT.roll(-1, dims=1)[asked_BT]
            read_N = read(next_tokens(self.model, ids_BT, mask_BT, asked_BT), next_N).cpu().numpy()
            at = 0
            for i in chunk:
                found[i] = read_N[at : at + len(asked[i])]
                at += len(asked[i])
            done += len(chunk)
            self.progress(stage, done, len(items))
        return found


def distinct(prompts: Iterable[Prompt], known: Iterable[str]) -> list[Prompt]:
    """Prompts whose text is not in ``known``."""
    seen = set(known)
    return [p for p in prompts if p.text not in seen]
