"""Whether an engine and a dtype compute the teacher that the plain path does: one prompt at a time, in fp32.

Other ways of computing a model are known to return wrong states without an error: padding that shifts positions, a
kernel that drops part of the cache, a rounding that changes choices. So a few prompts are asked in both ways before
anything is concluded from the answers. Letters: N positions, V vocabulary, L layers, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from m2kt.errors import ExtractionError
from m2kt.models import encode_prompt
from m2kt.packet import Equality
from m2kt.probes import Prompt
from m2kt.teacher._batches import Batch, TokenisedTrace
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.engine import Ids, Plain, Predict, Reply, States

PROMPTS = 8
PLAIN_TOKENS = 1_024  # of all prompts, but of two at least: the plain path computes each of them alone
TOKENS = 8  # of each answer
DIGITS = 6  # of the figures


@dataclass(frozen=True)
class Bounds:
    """What the figures must reach."""

    greedy: float
    """Smallest share of tokens that both choose."""
    total_variation: float
    """Largest mean distance of the next tokens' distributions."""
    cosine: float
    """Smallest cosine of two states."""


EXACT = Bounds(greedy=0.98, total_variation=0.001, cosine=0.9999)
# bf16 measured: 1.0, 0.0003, 0.9998 (Qwen2.5-Coder-0.5B), 0.97, 0.013, 0.9995 (SmolLM2-135M, the worst of three seeds)
ROUNDED = Bounds(greedy=0.85, total_variation=0.05, cosine=0.98)
_BOUNDS = {"float32": EXACT, "float64": EXACT}


def measure_equality(teacher: Teacher, *, seed: int) -> Equality | None:
    """The figures; None where there is no prompt to ask.

    Raises:
        ExtractionError: they are out of bounds.
    """
    prompts = _few(teacher, teacher.spec.sample("probing", PROMPTS, seed=seed))
    if not prompts:
        return None
    answers = teacher.complete(prompts, "checking the engine")
    traces = []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = encode_prompt(teacher.tokenizer, prompt.text, teacher.chat)
        traces.append(TokenisedTrace([*ids, *answer.ids[: TOKENS - 1]], [], [], [], len(ids) - 1))
    next_N = [t for trace, a in zip(traces, answers, strict=True) for t in _written(trace, a.ids)]
    layers = tuple(sorted({max(1, teacher.facts.layers // 2), teacher.facts.layers}))
    log_p_NV, state_NLD = _asked(teacher, traces, layers)
    sequences = tuple(tuple(trace.ids) for trace in traces)
    (plain,) = teacher.engine.ask([Plain(sequences, tuple(trace.answer_start for trace in traces), layers)])
    equality = _compared(teacher.facts.dtype, next_N, (log_p_NV, state_NLD), plain)
    refuse_unequal(equality, _BOUNDS.get(equality.dtype, ROUNDED))
    return equality


def _few(teacher: Teacher, prompts: list[Prompt]) -> list[Prompt]:
    """The first of them, as many as are not too long together."""
    sizes = (len(encode_prompt(teacher.tokenizer, prompt.text, teacher.chat)) for prompt in prompts)
    return [
        prompt
        for i, (prompt, n) in enumerate(zip(prompts, accumulate(sizes), strict=True))
        if i < 2 or n <= PLAIN_TOKENS
    ]


def _written(trace: TokenisedTrace, answer: list[int]) -> list[int]:
    """The token chosen at each position; -1 where the answer had ended."""
    n = len(trace.ids) - trace.answer_start
    return [*answer[:n], *[-1] * (n - len(answer[:n]))]


def _asked(
    teacher: Teacher, traces: list[TokenisedTrace], layers: Ids
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Log-probabilities (N, V) and states (N, L, D) at the positions of answers, as interrogation asks for them."""

    def positions(batch: Batch, i: int) -> range:
        return range(traces[i].answer_start - batch.skipped, len(traces[i].ids) - batch.skipped)

    def prediction(batch: Batch) -> Predict:
        return Predict(batch.rows, tuple(tuple(positions(batch, i)) for i in batch.members), "distribution")

    def states(batch: Batch) -> States:
        every = [(row, t) for row, i in enumerate(batch.members) for t in positions(batch, i)]
        return States(batch.rows, layers, tuple((n, row, t) for n, (row, t) in enumerate(every)))

    found: list[dict[int, NDArray[np.generic]]] = []
    for request, name in ((prediction, "log_p_NV"), (states, "state_NLD")):
        of_trace: dict[int, NDArray[np.generic]] = {}
        for batch, reply in teacher.ask(teacher.batches(traces, logits=True), request):
            ends = np.cumsum([len(positions(batch, i)) for i in batch.members])
            of_trace |= zip(batch.members, np.split(reply[name], ends[:-1]), strict=True)
        found.append(of_trace)
    log_p, state = (np.concatenate([of[i] for i in range(len(traces))]).astype(np.float32, copy=False) for of in found)
    return log_p, state


def _compared(
    dtype: str, next_N: list[int], asked: tuple[NDArray[np.float32], NDArray[np.float32]], plain: Reply
) -> Equality:
    log_p_NV, state_NLD = asked
    other_NV, other_NLD = plain["log_p_NV"], plain["state_NLD"].astype(np.float32, copy=False)
    apart_N = [
        0.5 * float(np.abs(np.exp(a_V.astype(np.float64)) - np.exp(b_V.astype(np.float64))).sum())
        for a_V, b_V in zip(log_p_NV, other_NV, strict=True)
    ]
    chosen = [(token, int(b_V.argmax())) for token, b_V in zip(next_N, other_NV, strict=True) if token >= 0]
    norms_NL = np.linalg.norm(state_NLD, axis=-1) * np.linalg.norm(other_NLD, axis=-1)
    cosine_NL = (state_NLD * other_NLD).sum(-1) / np.maximum(norms_NL, 1e-30)
    return Equality(
        dtype=dtype,
        tokens=len(next_N),
        greedy=round(sum(a == b for a, b in chosen) / max(1, len(chosen)), DIGITS),
        total_variation=round(float(np.mean(apart_N)), DIGITS),
        total_variation_max=round(max(apart_N), DIGITS),
        cosine=round(min(1.0, float(cosine_NL.min())), DIGITS),
    )


def refuse_unequal(equality: Equality, bounds: Bounds) -> None:
    """Raise where figures are out of bounds; NaN is.

    Raises:
        ExtractionError: the figure that is, and its bound.
    """
    tests = (
        ("the share of equal greedy tokens", equality.greedy, equality.greedy >= bounds.greedy, bounds.greedy),
        (
            "the mean total variation of next tokens",
            equality.total_variation,
            equality.total_variation <= bounds.total_variation,
            bounds.total_variation,
        ),
        ("the smallest cosine of states", equality.cosine, equality.cosine >= bounds.cosine, bounds.cosine),
    )
    for name, value, holds, bound in tests:
        if not holds:
            raise ExtractionError(
                f"the engine does not compute the teacher that fp32 computes: {name} is {value}, the bound is {bound} "
                f"({equality.tokens} tokens, {equality.dtype}); use --dtype fp32 or --engine local"
            )
