"""The teacher model: greedy answers, tokenised traces, next-token predictions. Counts the sequences it is given.

Letters: B batch, T tokens, V vocabulary, N predictions.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from m2kt.errors import ExtractionError
from m2kt.models import (
    ChatFormat,
    Completion,
    Encoded,
    LoadedModel,
    common_prefix,
    encode_chat,
    encode_prompt,
    encode_units,
    end_token,
    ends_among,
    leading_space,
    show,
    text_of,
    token_spans,
    tokens_bytes,
)
from m2kt.probes import END, ProbeSpec, Prompt, Segmenter
from m2kt.teacher._batches import GENERATED_TOKENS, TOKENS_PER_BATCH, Batch, TokenisedTrace, batched, begins
from m2kt.teacher._oracle import Answer, Forced
from m2kt.teacher.engine import (
    Engine,
    Generate,
    Ids,
    Predict,
    Reply,
    Request,
    SharePrefix,
    completions,
    engine_of,
)

Scalar = TypeVar("Scalar", bound=np.generic)
Progress = Callable[[str, int, int], None]  # (stage, done, total)
ANY_MESSAGE = "?"  # begins as no prompt does
LOGITS_PER_BATCH = 2**28  # tokens x V; a large vocabulary would otherwise need gigabytes


class Teacher:
    """A teacher with its probe spec, and the count of what it was given: ``passes`` sequences of ``tokens`` tokens.

    ``tokens_shared`` tokens more would have been computed without prefixes that are computed once.
    """

    def __init__(self, teacher: LoadedModel | Engine, spec: ProbeSpec, progress: Progress | None = None) -> None:
        self.engine = engine_of(teacher)
        self.facts = self.engine.facts
        self.tokenizer = self.engine.tokenizer
        self.spec = spec
        self.ends = ends_among(self.tokenizer, spec.stops, self.facts.own_ends, self.facts.ends)
        chat = None if spec.chat is None else ChatFormat(spec.chat.system, spec.chat.jinja)
        self.chat = show(self.tokenizer, chat, spec.shown, self.ends)
        self.passes = 0
        self.tokens = 0
        self.tokens_shared = 0
        self.answer_budget = 0  # maximum number of new tokens of the last answers
        self.progress: Progress = progress or (lambda stage, done, total: None)
        self.prefixes: list[Ids] = []  # of the first prompts that were asked, longest first
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
        if longest >= self.facts.context:
            raise ExtractionError(
                f"expected prompts of fewer than {self.facts.context} tokens (the teacher's context), got one of "
                f"{longest}; shorten the templates"
            )
        if not self._asked:
            self.prefixes, self._asked = self._shared(encoded), True
        budget = self.answer_budget = min(self.spec.answer_tokens, self.facts.context - longest)
        batch_size = max(1, GENERATED_TOKENS // (longest + budget // 2))
        order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
        chunks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        requests = [self._generation([encoded[i] for i in chunk], budget) for chunk in chunks]
        done: dict[int, Completion] = {}
        for chunk, request, reply in zip(chunks, requests, self.engine.ask(requests), strict=True):
            found = completions(reply)
            n_prefix = len(request.prefix)
            self._count([len(p) - n_prefix + len(c.ids) for p, c in zip(request.prompts, found, strict=True)], n_prefix)
            done.update(zip(chunk, found, strict=True))
            self.progress(stage, len(done), len(order))
        return done

    def _generation(self, prompts: Sequence[Sequence[int]], budget: int) -> Generate:
        """Behind the first prefix, if all prompts begin with it."""
        prefix = next(iter(self.prefixes), ())
        begun = all(begins(prompt, prefix) for prompt in prompts)
        return Generate(tuple(map(tuple, prompts)), prefix if begun else (), budget, self.ends)

    def _shared(self, prompts: Sequence[Sequence[int]]) -> list[Ids]:
        """What prompts begin with, and what any message does: a template's head is no part of every context."""
        frame = [prompts[0], encode_prompt(self.tokenizer, ANY_MESSAGE, self.chat)]
        by_length = sorted(prompts, key=len)
        asked = [
            SharePrefix(ids, tuple(map(tuple, sequences)))
            for ids, sequences in (
                (common_prefix(prompts), (by_length[0], by_length[-1])),
                (common_prefix(frame), sorted(frame, key=len)),
            )
            if ids
        ]
        good = [ask.ids for ask, reply in zip(asked, self.engine.ask(asked), strict=True) if reply["good"]]
        self.tokens += sum(map(len, good))
        return list(dict.fromkeys(good))

    def _count(self, lengths: Sequence[int], n_prefix: int) -> None:
        """Count sequences of so many tokens, each behind a prefix."""
        self.passes += len(lengths)
        self.tokens += sum(lengths)
        self.tokens_shared += n_prefix * len(lengths)

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
    def batches(self, traces: Sequence[TokenisedTrace], *, logits: bool = False) -> list[Batch]:
        """Batches of similar length, each behind the longest prefix that all of it begin with.

        Args:
            logits: batches for which logits are computed, which are smaller.
        """
        limit = min(TOKENS_PER_BATCH, LOGITS_PER_BATCH // self.facts.vocabulary) if logits else TOKENS_PER_BATCH
        return batched(traces, self.prefixes, limit)

    def ask(
        self,
        batches: Sequence[Batch],
        request: Callable[[Batch], Request],
        stage: str | None = None,
    ) -> Iterator[tuple[Batch, Reply]]:
        """Each batch with the reply to what is asked of it, in order, and counted.

        Args:
            stage: shown as progress; None: nothing is.
        """
        total, done = sum(len(batch.members) for batch in batches), 0
        for batch, reply in zip(batches, self.engine.ask(map(request, batches)), strict=True):
            self._count([len(ids) for ids in batch.rows.ids], batch.skipped)
            yield batch, reply
            done += len(batch.members)
            if stage is not None:
                self.progress(stage, done, total)

    def ask_each(self, requests: Sequence[Request], lengths: Sequence[int]) -> list[Reply]:
        """Replies to requests of one sequence each, computed forwards and backwards.

        Args:
            lengths: in tokens.
        """
        replies = list(self.engine.ask(requests))
        for _ in range(2):
            self._count(lengths, 0)
        return replies

    def choices(
        self, traces: Sequence[TokenisedTrace], stage: str, first_positions: Sequence[int] | None = None
    ) -> list[NDArray[np.int32]]:
        """The argmax next token at every position that predicts an answer token, by trace; -1 at all others.

        Args:
            first_positions: by trace, the first position that is needed; earlier ones get -1 too.
        """

        firsts = first_positions or [0] * len(traces)
        starts = [max(trace.answer_start, first) for trace, first in zip(traces, firsts, strict=True)]
        positions = [range(start, len(trace.ids)) for start, trace in zip(starts, traces, strict=True)]
        predicted = self._predictions(traces, positions, "choice", np.int32, stage)
        skipped = [np.full(start, -1, dtype=np.int32) for start in starts]
        return [np.concatenate(parts) for parts in zip(skipped, predicted, strict=True)]

    def log_p(
        self, traces: Sequence[TokenisedTrace], tokens: Sequence[Collection[int]], stage: str
    ) -> list[dict[int, float]]:
        """log P(token | all tokens before it) in nats, for the given token indices of each trace."""

        ordered = [sorted(indices) for indices in tokens]
        positions = [[t - 1 for t in indices] for indices in ordered]
        predicted = self._predictions(traces, positions, "log_p", np.float32, stage)
        return [
            dict(zip(indices, log_p_N.tolist(), strict=True))
            for indices, log_p_N in zip(ordered, predicted, strict=True)
        ]

    def _predictions(
        self,
        traces: Sequence[TokenisedTrace],
        positions: Sequence[Sequence[int]],
        what: Literal["choice", "log_p"],
        dtype: type[Scalar],
        stage: str,
    ) -> list[NDArray[Scalar]]:
        """What is predicted at the ascending ``positions`` of each trace."""

        def request(batch: Batch) -> Predict:
            behind = tuple(tuple(t - batch.skipped for t in positions[i]) for i in batch.members)
            return Predict(batch.rows, behind, what)

        scores: list[NDArray[Scalar]] = [np.empty(0, dtype=dtype)] * len(traces)
        for batch, reply in self.ask(self.batches(traces, logits=True), request, stage):
            score_N, start = reply["score_N"].astype(dtype, copy=False), 0
            for i in batch.members:
                scores[i] = score_N[start : start + len(positions[i])]
                start += len(positions[i])
        return scores


def _is_word(text: str) -> bool:
    return any(c.isalnum() for c in text)


def unseen(prompts: Iterable[Prompt], seen: Iterable[str]) -> list[Prompt]:
    """Prompts whose text is not in ``seen``."""
    texts = set(seen)
    return [p for p in prompts if p.text not in texts]
