"""Traces in batches that depend on the traces alone: whoever computes them gets the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from m2kt.teacher.engine import Ids, Rows

TOKENS_PER_BATCH = 4_096  # larger batches do not fit a processor's caches and allocate memory anew
GENERATED_TOKENS = 16_384  # tokens in key-value caches at once; a step computes one token of each row


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
    """Traces that are asked together."""

    members: list[int]
    """Which traces."""
    rows: Rows
    """Their tokens."""

    @property
    def skipped(self) -> int:
        """Tokens of each trace that come before the rows."""
        return len(self.rows.prefix)


def batched(traces: Sequence[TokenisedTrace], prefixes: Sequence[Ids], limit: int) -> list[Batch]:
    """Batches of traces of similar length, each behind the first prefix that all of it begin with.

    Args:
        limit: tokens of a batch behind the prefix, padding included.
    """
    behind = [next((prefix for prefix in prefixes if _is_behind(prefix, trace)), ()) for trace in traces]
    lengths = [len(trace.ids) for trace in traces]
    found = []
    for prefix in (*prefixes, ()):
        skipped = len(prefix)
        for chunk in _chunks([i for i, of in enumerate(behind) if of == prefix], lengths, skipped, limit):
            found.append(Batch(chunk, Rows(tuple(tuple(traces[i].ids[skipped:]) for i in chunk), prefix)))
    return found


def begins(sequence: Sequence[int], prefix: Ids) -> bool:
    """Whether a sequence begins with these tokens and goes on."""
    return len(sequence) > len(prefix) and tuple(sequence[: len(prefix)]) == prefix


def _is_behind(prefix: Ids, trace: TokenisedTrace) -> bool:
    """Whether a trace begins with the prefix and nothing within it is asked for."""
    return begins(trace.ids, prefix) and trace.answer_start >= len(prefix)


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
