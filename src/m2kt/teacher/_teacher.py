"""The teacher model: greedy answers, tokenised traces, next-token predictions. Counts the sequences it is given.

Letters: B batch, T tokens, V vocabulary, N predictions.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Cache

from m2kt.errors import ExtractionError
from m2kt.models import (
    ChatFormat,
    Completion,
    Encoded,
    LoadedModel,
    Prefix,
    answer_ends,
    context_length,
    encode_chat,
    encode_prompt,
    encode_units,
    end_token,
    generate_greedy,
    leading_space,
    next_token_logits,
    pad_batch,
    shared_prefix,
    show,
    text_of,
    token_spans,
    tokens_bytes,
    with_prefix,
)
from m2kt.probes import END, ProbeSpec, Prompt, Segmenter
from m2kt.teacher._oracle import Answer, Forced

Scalar = TypeVar("Scalar", bound=np.generic)
Progress = Callable[[str, int, int], None]  # (stage, done, total)
TOKENS_PER_BATCH = 4_096  # larger batches do not fit a processor's caches and allocate memory anew
GENERATED_TOKENS = 16_384  # tokens in key-value caches at once; a step computes one token of each row
ANY_MESSAGE = "?"  # begins as no prompt does
LOGITS_PER_BATCH = 2**28  # tokens x V; a large vocabulary would otherwise need gigabytes


@dataclass(frozen=True)
class TokenisedTrace:
    """Prompt and answer in the teacher's tokens."""

    ids: list[int]
    unit_of_token: list[int]
    tokens_of_unit: list[list[int]]
    content: list[list[int]]  # per unit: its tokens without a bare leading space
    answer_start: int  # index of the token that predicts the answer's first token


@dataclass(frozen=True)
class Batch:
    """Rows of a forward pass, padded on the right."""

    rows: list[int]
    """Which traces."""
    ids_BT: Tensor
    """Their tokens, without those of the prefix."""
    real_BT: Tensor
    """1 where a token is no padding."""
    prefix: Prefix | None
    """What all of them begin with, computed before."""

    @property
    def skipped(self) -> int:
        """Tokens of each trace that ``ids_BT`` leaves out."""
        return 0 if self.prefix is None else len(self.prefix.ids)

    @property
    def mask(self) -> Tensor:
        """The attention mask, of the prefix too."""
        return self.real_BT if self.prefix is None else with_prefix(self.prefix, self.real_BT)

    def past(self) -> Cache | None:
        """A new cache of the prefix, for one pass."""
        return None if self.prefix is None else self.prefix.for_rows(len(self.rows))


class Teacher:
    """A loaded teacher with its probe spec; ``passes`` counts the sequences that it was given."""

    def __init__(self, loaded: LoadedModel, spec: ProbeSpec, progress: Progress | None = None) -> None:
        self.loaded = loaded
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.spec = spec
        self.ends = answer_ends(loaded, spec.stops)
        chat = None if spec.chat is None else ChatFormat(spec.chat.system, spec.chat.jinja)
        self.chat = show(self.tokenizer, chat, spec.shown, self.ends)
        self.passes = 0
        self.answer_budget = 0  # maximum number of new tokens of the last answers
        self.progress: Progress = progress or (lambda stage, done, total: None)
        self.device = next(self.model.parameters()).device
        self.context = context_length(self.model)
        pad_id = self.tokenizer.pad_token_id
        self.pad_id = int(pad_id) if isinstance(pad_id, int) else 0
        self.prefixes: list[Prefix] = []  # of the first prompts that were asked, longest first
        self._asked = False
        self._traces: dict[tuple[tuple[str, ...], int], TokenisedTrace] = {}
        self._segmenter = Segmenter(spec.values)

    # -- generation -----------------------------------------------------------------------------------------------
    def answer(self, prompts: Sequence[Prompt], stage: str = "generating") -> tuple[list[Answer], int]:
        """Greedy answers, and the number of prompts whose answer came to no end (these are left out)."""
        completions = self._completed(prompts, stage)
        answers = []
        for i, completion in completions.items():
            if completion.stopped:
                text = self.spec.completion_text(completion.text)
                answers.append(Answer(prompts[i], text, self._token_ends(completion.ids)))
        return answers, len(completions) - len(answers)

    def complete(self, prompts: Sequence[Prompt], stage: str) -> list[Completion]:
        """Greedy completions, in the order given.

        Raises:
            ExtractionError: a prompt does not fit the teacher's context.
        """
        done = self._completed(prompts, stage)
        return [done[i] for i in range(len(prompts))]

    def _completed(self, prompts: Sequence[Prompt], stage: str) -> dict[int, Completion]:
        """Completions by index of the prompt, shortest prompts first."""
        if not prompts:
            return {}
        encoded = [encode_prompt(self.tokenizer, p.text, self.chat) for p in prompts]
        longest = max(map(len, encoded))
        if longest >= self.context:
            raise ExtractionError(
                f"expected prompts of fewer than {self.context} tokens (the teacher's context), got one of {longest}; "
                "shorten the templates"
            )
        if not self._asked:
            self.prefixes, self._asked = self._shared(encoded), True
        budget = self.answer_budget = min(self.spec.answer_tokens, self.context - longest)
        done: dict[int, Completion] = {}
        batch_size = max(1, GENERATED_TOKENS // (longest + budget // 2))
        order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            batch = [encoded[i] for i in chunk]
            completions = generate_greedy(
                self.loaded, batch, budget, self.ends, batch_size=batch_size, prefix=next(iter(self.prefixes), None)
            )
            self.passes += len(chunk)
            done.update(zip(chunk, completions, strict=True))
            self.progress(stage, min(start + batch_size, len(order)), len(order))
        return done

    def _shared(self, prompts: Sequence[Sequence[int]]) -> list[Prefix]:
        """What prompts begin with, and what any message does: a template's head is no part of every context."""
        frame = [prompts[0], encode_prompt(self.tokenizer, ANY_MESSAGE, self.chat)]
        found = (shared_prefix(self.loaded, sequences) for sequences in (prompts, frame))
        return list({prefix.ids: prefix for prefix in found if prefix is not None}.values())

    def _token_ends(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Character offsets at which tokens end; a token that ends within a character has none."""
        pieces_T = tokens_bytes(self.tokenizer, ids)
        if all(map(bytes.isascii, pieces_T)):
            return tuple(accumulate(map(len, pieces_T)))
        ends = []
        for prefix in accumulate(pieces_T):
            try:
                ends.append(len(prefix.decode()))
            except UnicodeDecodeError:
                continue
        return tuple(ends)

    # -- interventions --------------------------------------------------------------------------------------------
    def intended(self, forced: Sequence[Forced], stage: str = "intervening") -> list[list[str | None]]:
        """By text and answer unit: what the teacher would itself write there, given all units before.

        One pass a text. A unit counts as intended where all its tokens are the teacher's choices; else its text is
        what the first other choice begins, so far as one token tells. None before the replaced unit, where one token
        does not tell which value it begins, and behind the place where the teacher would have written other structure.
        """
        if not forced:
            return []
        traces = [self.tokenise(f.units, f.n_prompt) for f in forced]
        firsts = [
            0 if f.replaced < f.n_prompt else trace.tokens_of_unit[f.replaced][0] - 1
            for f, trace in zip(forced, traces, strict=True)
        ]
        chosen = self.choices(traces, stage, first_positions=firsts)
        return [self._intended(f, t, c_T) for f, t, c_T in zip(forced, traces, chosen, strict=True)]

    def _intended(self, forced: Forced, trace: TokenisedTrace, choice_T: NDArray[np.int32]) -> list[str | None]:
        texts: list[str | None] = [None] * (len(forced.units) - forced.n_prompt)
        for unit in range(max(forced.replaced, forced.n_prompt), len(forced.units)):
            standing, tokens = forced.units[unit], trace.tokens_of_unit[unit]
            other = next((t for t in tokens if choice_T[t - 1] != trace.ids[t]), None)
            if other is None:
                texts[unit - forced.n_prompt] = standing
                continue
            written = [trace.ids[t] for t in tokens if t < other] + [int(choice_T[other - 1])]
            begun = text_of(self.tokenizer, written)
            ended = written == [end_token(self.tokenizer)] and self.spec.end == END
            texts[unit - forced.n_prompt] = END if ended else self._begun_unit(begun)
            if not (_is_word(begun) and _is_word(standing)):
                break
        return texts

    def _begun_unit(self, text: str) -> str | None:
        """The unit that ``text`` begins; None where several values begin so, or it is a mere space."""
        if not text.strip(" "):
            return None
        unit = self._segmenter.cut(text)[0].text
        body = unit.strip(" ")
        begun = [value for value in self._segmenter.values if value.startswith(body)]
        if len(begun) > 1:
            return None
        return unit[: len(unit) - len(body)] + begun[0] if begun else unit

    # -- tokenisation ---------------------------------------------------------------------------------------------
    def tokenise(self, texts: Sequence[str], n_prompt: int) -> TokenisedTrace:
        """Unit texts in the teacher's tokens: the prompt encoded by itself, as at generation, then the completion."""
        key = (tuple(texts), n_prompt)  # several stages tokenise the same answers
        if key not in self._traces:
            self._traces[key] = self._tokenise(texts, n_prompt)
        return self._traces[key]

    def _tokenise(self, texts: Sequence[str], n_prompt: int) -> TokenisedTrace:
        if self.chat is not None:
            return self._trace(encode_chat(self.tokenizer, texts, n_prompt, self.chat), texts, n_prompt)
        prompt = "".join(texts[:n_prompt])
        encoded = encode_units(self.tokenizer, [prompt, *texts[n_prompt:]], prompt_boundary=1)
        unit_ends = list(accumulate(len(text.encode()) for text in texts[:n_prompt]))
        of_prompt = [token for token, unit in zip(encoded.ids, encoded.unit_of_token, strict=True) if unit == 0]
        spans = iter(token_spans(self.tokenizer, of_prompt, prompt))
        units = []
        for unit in encoded.unit_of_token:
            if unit != 0:
                units.append(unit if unit < 0 else unit - 1 + n_prompt)
                continue
            # A prompt token may span two slots; it belongs to the one in which it ends.
            units.append(min(bisect_left(unit_ends, next(spans)[1]), n_prompt - 1))
        return self._trace(Encoded(encoded.ids, units), texts, n_prompt)

    def _trace(self, encoded: Encoded, texts: Sequence[str], n_prompt: int) -> TokenisedTrace:
        """With the tokens of each unit."""
        units, pieces_T = encoded.unit_of_token, tokens_bytes(self.tokenizer, encoded.ids)
        tokens_of_unit: list[list[int]] = [[] for _ in texts]
        for t, unit in enumerate(units):
            if unit >= 0:
                tokens_of_unit[unit].append(t)
        content = [
            tokens[leading_space(text, tokens, pieces_T) :] for text, tokens in zip(texts, tokens_of_unit, strict=True)
        ]
        first_answer_token = next((t for t, unit in enumerate(units) if unit >= n_prompt), len(units))
        return TokenisedTrace(encoded.ids, units, tokens_of_unit, content, first_answer_token - 1)

    # -- forward passes -------------------------------------------------------------------------------------------
    def batches(self, traces: Sequence[TokenisedTrace], *, logits: bool = False) -> Iterator[Batch]:
        """Right-padded batches of similar length, each behind the longest prefix that all of it begin with.

        Args:
            logits: batches for which logits are computed, which are smaller.
        """
        limit = TOKENS_PER_BATCH
        if logits:
            limit = min(limit, LOGITS_PER_BATCH // int(self.model.get_output_embeddings().weight.shape[0]))
        behind = [next((x for x in self.prefixes if self._is_behind(x, trace)), None) for trace in traces]
        for prefix in (*self.prefixes, None):
            skipped = 0 if prefix is None else len(prefix.ids)
            members = [i for i, found in enumerate(behind) if found is prefix]
            for chunk in _chunks(members, [len(trace.ids) for trace in traces], skipped, limit):
                rows = [traces[i].ids[skipped:] for i in chunk]
                ids_BT, mask_BT = pad_batch(rows, self.pad_id, side="right", device=self.device)
                self.passes += len(chunk)
                yield Batch(chunk, ids_BT, mask_BT, prefix)

    def _is_behind(self, prefix: Prefix, trace: TokenisedTrace) -> bool:
        """Whether a trace begins with the prefix and nothing within it is asked for."""
        return prefix.begins(trace.ids) and trace.answer_start >= len(prefix.ids)

    @contextmanager
    def eager(self) -> Iterator[None]:
        """Eager attention inside the context: other kernels return no attention patterns, without an error."""
        implementation = self.model.config._attn_implementation
        self.model.set_attn_implementation("eager")
        try:
            yield
        finally:
            self.model.set_attn_implementation(implementation)

    def choices(
        self, traces: Sequence[TokenisedTrace], stage: str, first_positions: Sequence[int] | None = None
    ) -> list[NDArray[np.int32]]:
        """The argmax next token at every position that predicts an answer token, by trace; -1 at all others.

        Args:
            first_positions: by trace, the first position that is needed; earlier ones get -1 too.
        """

        def argmax(logits_NV: Tensor, _: Tensor) -> Tensor:
            return logits_NV.argmax(dim=-1).to(torch.int32)

        firsts = first_positions or [0] * len(traces)
        starts = [max(trace.answer_start, first) for trace, first in zip(traces, firsts, strict=True)]
        positions = [range(start, len(trace.ids)) for start, trace in zip(starts, traces, strict=True)]
        predicted = self._predictions(traces, positions, argmax, np.int32, stage)
        skipped = [np.full(start, -1, dtype=np.int32) for start in starts]
        return [np.concatenate(parts) for parts in zip(skipped, predicted, strict=True)]

    def log_p(
        self, traces: Sequence[TokenisedTrace], tokens: Sequence[Collection[int]], stage: str
    ) -> list[dict[int, float]]:
        """log P(token | all tokens before it) in nats, for the given token indices of each trace."""

        def log_p_of_next(logits_NV: Tensor, next_N: Tensor) -> Tensor:
            return logits_NV.float().log_softmax(dim=-1).gather(1, next_N[:, None])[:, 0]

        ordered = [sorted(indices) for indices in tokens]
        positions = [[t - 1 for t in indices] for indices in ordered]
        predicted = self._predictions(traces, positions, log_p_of_next, np.float32, stage)
        return [
            dict(zip(indices, log_p_N.tolist(), strict=True))
            for indices, log_p_N in zip(ordered, predicted, strict=True)
        ]

    @torch.no_grad()
    def _predictions(
        self,
        traces: Sequence[TokenisedTrace],
        positions: Sequence[Sequence[int]],
        score: Callable[[Tensor, Tensor], Tensor],
        dtype: type[Scalar],
        stage: str,
    ) -> list[NDArray[Scalar]]:
        """``score`` of the logits (N, V) and next tokens (N,) at the ascending ``positions`` of each trace."""
        scores: list[NDArray[Scalar]] = [np.empty(0, dtype=dtype)] * len(traces)
        done = 0
        for batch in self.batches(traces, logits=True):
            selected_BT = torch.zeros_like(batch.real_BT, dtype=torch.bool)
            for row, i in enumerate(batch.rows):
                selected_BT[row, [t - batch.skipped for t in positions[i]]] = True
            next_N = batch.ids_BT.roll(-1, dims=1)[selected_BT]
            logits_NV = next_token_logits(self.model, batch.ids_BT, batch.mask, selected_BT, past=batch.past())
            score_N = score(logits_NV, next_N).cpu().numpy()
            start = 0
            for i in batch.rows:
                scores[i] = score_N[start : start + len(positions[i])]
                start += len(positions[i])
            done += len(batch.rows)
            self.progress(stage, done, len(traces))
        return scores


def _chunks(members: Sequence[int], lengths: Sequence[int], skipped: int, limit: int) -> Iterator[list[int]]:
    """Members by length, in chunks whose padded tokens behind the skipped ones, and whose caches, fit the limits."""
    order = sorted(members, key=lambda i: lengths[i])
    start = 0
    while start < len(order):
        end = start
        while end < len(order):
            rows, longest = end - start + 1, lengths[order[end]]
            if rows * (longest - skipped) > limit or (skipped and rows * longest > GENERATED_TOKENS):
                break
            end += 1
        yield order[start : max(end, start + 1)]
        start = max(end, start + 1)


def _is_word(text: str) -> bool:
    return any(c.isalnum() for c in text)


def unseen(prompts: Iterable[Prompt], seen: Iterable[str]) -> list[Prompt]:
    """Prompts whose text is not in ``seen``."""
    texts = set(seen)
    return [p for p in prompts if p.text not in texts]
