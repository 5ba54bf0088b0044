"""Gradient attribution: gradient times input of the chosen token's margin (the paper's second option).

Letters: N contexts, T tokens, D width, U units.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from m2kt.teacher._batches import TokenisedTrace
from m2kt.teacher._edges import Edge, Use
from m2kt.teacher._states import Context
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.engine import Attribute, Reply, Steer
from m2kt.teacher.sources._base import NOT_MEASURED, EqualWeights, Floats

PER_EDGE = 4
MIN_SHARE = 0.1  # of a step's largest attribution; smaller ones count as none


class Gradient(EqualWeights):
    """Attribution to input embeddings for effects; contexts weighted by how much their state drives the choice."""

    def effects(self, teacher: Teacher, edges: Sequence[Edge], *, seed: int) -> list[float]:
        """The share of the step's largest |gradient x input|, averaged over samples."""
        uses = [(number, use) for number, edge in enumerate(edges) for use in edge.uses[:PER_EDGE]]
        traces = [_trace(teacher, use.context) for _, use in uses]
        asked = [
            Attribute(tuple(trace.ids), trace.content[use.context.unit][0])
            for (_, use), trace in zip(uses, traces, strict=True)
        ]
        shares: list[list[float]] = [[] for _ in edges]
        replies = teacher.ask_each(asked, [len(ask.ids) for ask in asked])
        for (number, use), trace, reply in zip(uses, traces, replies, strict=True):
            shares[number].append(_share(reply, use, trace))
        means = [sum(members) / len(members) if members else NOT_MEASURED for members in shares]
        return [mean if mean > MIN_SHARE or mean == NOT_MEASURED else 0.0 for mean in means]

    def context_weights(self, teacher: Teacher, contexts: Sequence[Context], layer: int) -> Floats:
        """Norm of the gradient of the chosen token's log-probability with respect to the state."""
        asked = []
        for context in contexts:
            trace = _trace(teacher, context)
            asked.append(Steer(tuple(trace.ids[: trace.content[context.unit][0] + 1]), layer))
        replies = teacher.ask_each(asked, [len(ask.ids) - 1 for ask in asked])
        return np.array([float(reply["norm"]) + 1e-6 for reply in replies], dtype=np.float32)


def _trace(teacher: Teacher, context: Context) -> TokenisedTrace:
    return teacher.tokenise(context.sample.texts, context.sample.n_prompt)


def _share(reply: Reply, use: Use, trace: TokenisedTrace) -> float:
    """The attribution of the units that hold what is read, as a share of the largest of all units (U,)."""
    token_T = reply["token_T"]
    unit_U = np.array([max((token_T[t] for t in tokens), default=0.0) for tokens in trace.tokens_of_unit])
    unit_U[use.context.unit :] = 0.0
    return float((unit_U[list(use.held)] / max(float(unit_U.max()), 1e-9)).max())
