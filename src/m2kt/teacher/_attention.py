"""Attention along the edges of the program, and which edges are causal.

An edge runs from the position that predicts a step to a unit that the step reads. It is causal if ablating it (no
attention from that position to any unit that holds the same symbol by copying, in all layers) changes the step on a
sample. Letters: M edges, L layers, H heads, B batch, T tokens, S keys. Arrays are named as in attention.safetensors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Cache

from m2kt._shapes import Float
from m2kt.errors import ModelError
from m2kt.models import attention_patterns, blocks
from m2kt.teacher._edges import Edge, Use
from m2kt.teacher._teacher import Batch, Teacher, TokenisedTrace

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
    depth = len(blocks(teacher.model))
    traces, readings = _readings(teacher, edges)
    weights: NDArray[np.float32] | None = None
    note = None
    try:
        with teacher.eager():
            weights = _mean_patterns(teacher, traces, readings, len(edges))
            causal_M = _ablate(teacher, traces, readings, len(edges))
    except ModelError as error:
        note = f"no attention patterns: {error}"
        causal_M = np.full(len(edges), -1, dtype=np.int8)
    ablated_M = causal_M >= 0
    return Attention(
        np.array([edge.columns for edge in edges], dtype=np.int32).reshape(-1, len(EDGE_COLUMNS)),
        np.zeros((len(edges), depth, 1), dtype=np.float32) if weights is None else weights,
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


@torch.no_grad()
def _mean_patterns(
    teacher: Teacher, traces: list[TokenisedTrace], readings: list[_Reading], n_edges: int
) -> NDArray[np.float32] | None:
    """Attention (M, L, H) to the tokens of the units that hold what is read, averaged over uses; None without edges."""
    readings_of: dict[int, list[_Reading]] = defaultdict(list)
    for reading in readings:
        readings_of[reading.trace].append(reading)
    sum_MLH: NDArray[np.float32] | None = None
    for batch in teacher.batches(traces):
        patterns = attention_patterns(teacher.model, batch.ids_BT, batch.mask, past=batch.past())
        pattern_LBHTS = torch.stack([p.float() for p in patterns])  # S: keys, those of the prefix first
        if sum_MLH is None:
            sum_MLH = np.zeros((n_edges, pattern_LBHTS.shape[0], pattern_LBHTS.shape[2]), dtype=np.float32)
        for row, i in enumerate(batch.rows):
            for reading in readings_of[i]:
                t = traces[i].content[reading.use.context.unit][0] - 1 - batch.skipped
                read_tokens = [x for unit in reading.use.held for x in traces[i].tokens_of_unit[unit]]
                sum_MLH[reading.edge] += pattern_LBHTS[:, row, :, t][:, :, read_tokens].sum(-1).cpu().numpy()
    if sum_MLH is not None:
        sum_MLH /= np.bincount([r.edge for r in readings], minlength=n_edges)[:, None, None]
    return sum_MLH


@torch.no_grad()
def _ablate(teacher: Teacher, traces: list[TokenisedTrace], readings: list[_Reading], n_edges: int) -> NDArray[np.int8]:
    """By edge: 1 if masking its attention changes the step on a sample, 0 if not, -1 if the model takes no mask."""
    causal_M = np.full(n_edges, -1, dtype=np.int8)
    items = [traces[reading.trace] for reading in readings]
    dtype = next(teacher.model.parameters()).dtype
    for batch in teacher.batches(items, logits=True):
        bias_BTS = _bias(batch, items, readings, dtype)
        arguments: dict[str, Tensor | Cache] = {"input_ids": batch.ids_BT, "attention_mask": bias_BTS[:, None]}
        past = batch.past()
        if past is not None:
            arguments["past_key_values"] = past
        try:
            logits = teacher.model(**arguments, use_cache=False).logits
        except (RuntimeError, ValueError, TypeError, IndexError):
            return causal_M  # this architecture takes no mask per position; its edges stay at -1
        choice_BT = logits.argmax(-1).cpu()
        for row, i in enumerate(batch.rows):
            reading = readings[i]
            content = items[i].content[reading.use.context.unit]
            changed = any(int(choice_BT[row, t - 1 - batch.skipped]) != items[i].ids[t] for t in content)
            causal_M[reading.edge] = max(int(causal_M[reading.edge]), int(changed))
    return causal_M


def _bias(
    batch: Batch, items: Sequence[TokenisedTrace], readings: Sequence[_Reading], dtype: torch.dtype
) -> Float[Tensor, "B T S"]:
    """What is added to attention scores: causal, without padding, and without what each row's reading reads."""
    n_rows, n_tokens = batch.ids_BT.shape
    allowed_BTT = torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril()[None].repeat(n_rows, 1, 1)
    allowed_BTT &= batch.real_BT.bool().cpu()[:, None, :] | torch.eye(n_tokens, dtype=torch.bool)[None]
    before_BTS = torch.ones(n_rows, n_tokens, batch.skipped, dtype=torch.bool)
    allowed_BTS = torch.cat([before_BTS, allowed_BTT], dim=2)
    for row, i in enumerate(batch.rows):
        use = readings[i].use
        for t in items[i].content[use.context.unit]:
            keys = [x for unit in use.held for x in items[i].tokens_of_unit[unit] if x < t - 1]
            allowed_BTS[row, t - 1 - batch.skipped, keys] = False
    bias_BTS = torch.zeros(allowed_BTS.shape, dtype=dtype)
    return bias_BTS.masked_fill(~allowed_BTS, torch.finfo(dtype).min).to(batch.ids_BT.device)
