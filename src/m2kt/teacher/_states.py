"""Hidden states of the teacher at the positions that predict a unit. Only requested positions and layers are kept.

Letters: N contexts, L recorded layers, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import numpy as np
from numpy.typing import NDArray

from m2kt.teacher._batches import Batch, TokenisedTrace
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.engine import States
from m2kt.teacher.program._cut import Sample

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Context:
    """``sample`` up to its unit ``unit``, which the teacher predicts next."""

    sample: Sample
    unit: int


def _traces(teacher: Teacher, contexts: Sequence[Context]) -> tuple[list[TokenisedTrace], list[int]]:
    """The distinct samples in the teacher's tokens, and the index of each context's sample among them."""
    index: dict[int, int] = {}
    traces: list[TokenisedTrace] = []
    for sample in (context.sample for context in contexts):
        if id(sample) not in index:
            index[id(sample)] = len(traces)
            traces.append(teacher.tokenise(sample.texts, sample.n_prompt))
    return traces, [index[id(context.sample)] for context in contexts]


def record_contexts(teacher: Teacher, contexts: Sequence[Context], layers: Sequence[int], stage: str) -> Floats:
    """States (N, L, D), each a mean over the positions that predict the unit's tokens.

    A bare leading space is left out: the symbol is chosen after it. All states are held in memory at once.
    """
    traces, trace_of = _traces(teacher, contexts)
    contexts_of: list[list[int]] = [[] for _ in traces]
    for i, trace in enumerate(trace_of):
        contexts_of[trace].append(i)

    def request(batch: Batch) -> States:
        positions: list[tuple[int, int, int]] = []
        asked = ((row, trace, i) for row, trace in enumerate(batch.members) for i in contexts_of[trace])
        for number, (row, trace, i) in enumerate(asked):
            content = traces[trace].content[contexts[i].unit]
            positions += [(number, row, t - 1 - batch.skipped) for t in content]
        return States(batch.rows, tuple(layers), tuple(positions))

    state_NLD: Floats = np.zeros((len(contexts), len(layers), teacher.facts.width), dtype=np.float32)
    for batch, reply in teacher.ask(teacher.batches(traces), request, stage):
        state_NLD[[i for trace in batch.members for i in contexts_of[trace]]] = reply["state_NLD"]
    return state_NLD


def output_probability(teacher: Teacher, contexts: Sequence[Context], stage: str) -> list[float]:
    """The teacher's probability of each context's unit, without a bare leading space.

    A sample takes one forward pass, however many contexts share it.
    """
    traces, trace_of = _traces(teacher, contexts)
    content = [traces[trace].content[context.unit] for trace, context in zip(trace_of, contexts, strict=True)]
    needed: list[set[int]] = [set() for _ in traces]
    for trace, tokens in zip(trace_of, content, strict=True):
        needed[trace].update(tokens)
    log_p = teacher.log_p(traces, needed, stage)
    totals = (sum(log_p[trace][t] for t in tokens) for trace, tokens in zip(trace_of, content, strict=True))
    return [min(1.0, exp(total)) for total in totals]
