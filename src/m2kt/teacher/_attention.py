"""Attention along the edges of the program, and which edges are causal.

An edge runs from the position that predicts a step to a unit that the step reads. It is causal if ablating it (no
attention from that position to any unit that holds the same symbol by copying, in all layers) changes the step on a
sample. Letters: M edges, L layers, H heads, R readings. Arrays are named as in attention.safetensors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2kt.errors import ModelError
from m2kt.teacher._batches import Batch, TokenisedTrace
from m2kt.teacher._edges import Edge, Use
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.engine import Ablate, Patterns

USES_PER_EDGE = 6
EDGE_COLUMNS = ("state", "leaf", "argument", "rule")


@dataclass
class Attention:
    """Tensors of attention.safetensors, and the share of causal edges."""

    edges_M4: NDArray[np.int32]  # EDGE_COLUMNS: leaf counts within the state's decision, rule is -1 for copies
    weight_MLH: NDArray[np.float32]
    effect_M: NDArray[np.float32]  # how much the unit read decides the step, -1 if that was not measured
    causal_M: NDArray[np.int8]  # 1 ablation changed the step, 0 did not, -1 ablation is not possible
    causal_share: float
    note: str | None = None

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Tensors by their names on disk."""
        return {
            "edges_M4": self.edges_M4,
            "weight_MLH": self.weight_MLH,
            "effect_M": self.effect_M,
            "causal_M": self.causal_M,
        }


@dataclass(frozen=True)
class _Reading:
    """One use of an edge, and the index of its sample among the traces."""

    edge: int
    use: Use
    trace: int


def measure_attention(teacher: Teacher, edges: Sequence[Edge], effects: Sequence[float]) -> Attention:
    """Measure every edge on a few samples.

    Args:
        effects: by edge, from a concept source.
    """
    traces, readings = _readings(teacher, edges)
    weights: NDArray[np.float32] | None = None
    note = None
    try:
        weights = _mean_patterns(teacher, traces, readings, len(edges))
        causal_M = _ablate(teacher, traces, readings, len(edges))
    except ModelError as error:
        note = f"no attention patterns: {error}"
        causal_M = np.full(len(edges), -1, dtype=np.int8)
    ablated_M = causal_M >= 0
    return Attention(
        np.array([edge.columns for edge in edges], dtype=np.int32).reshape(-1, len(EDGE_COLUMNS)),
        np.zeros((len(edges), teacher.facts.layers, 1), dtype=np.float32) if weights is None else weights,
        np.array(effects, dtype=np.float32),
        causal_M,
        float((causal_M[ablated_M] == 1).mean()) if ablated_M.any() else float("nan"),
        note,
    )


def _readings(teacher: Teacher, edges: Sequence[Edge]) -> tuple[list[TokenisedTrace], list[_Reading]]:
    """The distinct samples in the teacher's tokens, and the uses that are measured."""
    index: dict[int, int] = {}
    traces: list[TokenisedTrace] = []
    readings = []
    for number, edge in enumerate(edges):
        for use in edge.uses[:USES_PER_EDGE]:
            sample = use.context.sample
            if id(sample) not in index:
                index[id(sample)] = len(traces)
                traces.append(teacher.tokenise(sample.texts, sample.n_prompt))
            readings.append(_Reading(number, use, index[id(sample)]))
    return traces, readings


def _mean_patterns(
    teacher: Teacher, traces: list[TokenisedTrace], readings: list[_Reading], n_edges: int
) -> NDArray[np.float32] | None:
    """Attention (M, L, H) to the tokens of the units that hold what is read, averaged over uses; None without edges."""
    readings_of: dict[int, list[_Reading]] = defaultdict(list)
    for reading in readings:
        readings_of[reading.trace].append(reading)

    def request(batch: Batch) -> Patterns:
        asked = []
        for row, i in enumerate(batch.members):
            for reading in readings_of[i]:
                t = traces[i].content[reading.use.context.unit][0] - 1 - batch.skipped
                read_tokens = tuple(x for unit in reading.use.held for x in traces[i].tokens_of_unit[unit])
                asked.append((row, t, read_tokens))
        return Patterns(batch.rows, tuple(asked))

    sum_MLH: NDArray[np.float32] | None = None
    for batch, reply in teacher.ask(teacher.batches(traces), request):
        weight_RLH = reply["weight_RLH"]
        if sum_MLH is None:
            sum_MLH = np.zeros((n_edges, *weight_RLH.shape[1:]), dtype=np.float32)
        of_batch = (reading for i in batch.members for reading in readings_of[i])
        for reading, weight_LH in zip(of_batch, weight_RLH, strict=True):
            sum_MLH[reading.edge] += weight_LH
    if sum_MLH is not None:
        sum_MLH /= np.bincount([r.edge for r in readings], minlength=n_edges)[:, None, None]
    return sum_MLH


def _ablate(teacher: Teacher, traces: list[TokenisedTrace], readings: list[_Reading], n_edges: int) -> NDArray[np.int8]:
    """By edge: 1 if masking its attention changes the step on a sample, 0 if not, -1 if the model takes no mask."""
    causal_M = np.full(n_edges, -1, dtype=np.int8)
    items = [traces[reading.trace] for reading in readings]

    def request(batch: Batch) -> Ablate:
        cuts, written = [], []
        for i in batch.members:
            use, trace = readings[i].use, items[i]
            content = trace.content[use.context.unit]
            held = [x for unit in use.held for x in trace.tokens_of_unit[unit]]
            cuts.append(tuple((t - 1 - batch.skipped, tuple(x for x in held if x < t - 1)) for t in content))
            written.append(tuple(trace.ids[t] for t in content))
        return Ablate(batch.rows, tuple(cuts), tuple(written))

    for batch, reply in teacher.ask(teacher.batches(items, logits=True), request):
        if not reply["changed_B"].size:
            return causal_M  # this architecture takes no mask per position; its edges stay at -1
        for i, changed in zip(batch.members, reply["changed_B"].tolist(), strict=True):
            edge = readings[i].edge
            causal_M[edge] = max(int(causal_M[edge]), changed)
    return causal_M
