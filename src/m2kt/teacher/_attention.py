"""Attention along the edges of the graph, and which edges are causal.

An edge runs from the position that predicts a step to a unit that the step reads. It is causal if ablating it (no
attention from that position to any unit that always holds the same symbol, in all layers) changes the step on a sample.
Letters: M edges, L layers, H heads, B batch, T tokens. Names of arrays are those in attention.safetensors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from m2kt.errors import ModelError
from m2kt.models import attention_patterns, blocks
from m2kt.packet._format1 import WriteCopy, WriteRule
from m2kt.teacher._condense import Draft, leaf_rows
from m2kt.teacher._corpus import Corpus
from m2kt.teacher._teacher import Teacher, TokenisedTrace

SAMPLES_PER_EDGE = 3
EDGE_COLUMNS = ("template", "node", "argument", "source", "read", "rule")

TraceKey = tuple[int, int]  # template, index of the sample


@dataclass
class Attention:
    """Tensors of attention.safetensors, and the share of causal edges."""

    edges_M6: NDArray[np.int32]  # EDGE_COLUMNS: node is an index into the packet's graph, rule is -1 for copies
    weight_MLH: NDArray[np.float32]
    effect_M: NDArray[np.float32]  # share of interventions on the unit that changed the step, -1 if none was made
    causal_M: NDArray[np.int8]  # 1 ablation changed the step, 0 did not, -1 ablation is not possible
    causal_share: float
    note: str | None = None

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Tensors by their names on disk."""
        return {
            "edges_M6": self.edges_M6,
            "weight_MLH": self.weight_MLH,
            "effect_M": self.effect_M,
            "causal_M": self.causal_M,
        }


@dataclass
class _Edge:
    columns: tuple[int, ...]  # EDGE_COLUMNS
    effect: float
    unit: int  # the step's
    read: int  # the source, or the unit with the same symbol that has the largest effect
    same_symbol: list[int]  # units that hold the source's symbol in all samples
    traces: list[TraceKey]


def measure_attention(teacher: Teacher, corpus: Corpus, draft: Draft, number: dict[int, int]) -> Attention:
    """Measure every edge on a few samples.

    Args:
        number: by rule of the draft, the rule of the packet's graph.
    """
    edges = list(_edges(corpus, draft, number))
    depth = len(blocks(teacher.model))
    traces: dict[TraceKey, TokenisedTrace] = {}
    for template, i in sorted({key for e in edges for key in e.traces}):
        sample = corpus.tries[template].samples[i]
        traces[template, i] = teacher.tokenise(sample.texts, sample.n_prompt)
    sums: list[NDArray[np.float32] | None] = [None] * len(edges)
    note = None
    try:
        with teacher.eager():
            _sum_patterns(teacher, edges, traces, sums)
            causal_M = _ablate(teacher, edges, traces)
    except ModelError as error:
        note = f"no attention patterns: {error}"
        causal_M = np.full(len(edges), -1, dtype=np.int8)
    zeros_LH = np.zeros((depth, 1), dtype=np.float32)
    weights = [zeros_LH if sum_LH is None else sum_LH for sum_LH in sums]
    ablated_M = causal_M >= 0
    return Attention(
        np.array([e.columns for e in edges], dtype=np.int32).reshape(-1, len(EDGE_COLUMNS)),
        np.stack(weights) if weights else np.zeros((0, depth, 1), dtype=np.float32),
        np.array([e.effect for e in edges], dtype=np.float32),
        causal_M,
        float((causal_M[ablated_M] == 1).mean()) if ablated_M.any() else float("nan"),
        note,
    )


def _edges(corpus: Corpus, draft: Draft, number: dict[int, int]) -> Iterator[_Edge]:
    for trie in corpus.tries:
        explained = [n for n in range(len(trie.nodes)) if (trie.template, n) in draft.decisions]
        for index, n in enumerate(explained):
            node = trie.nodes[n]
            columns = trie.columns(n)
            decision = draft.decisions[trie.template, n]
            for leaf, rows in leaf_rows(decision, columns, np.arange(len(columns))):
                if not isinstance(leaf, (WriteRule, WriteCopy)) or not len(rows):
                    continue
                sources = leaf.sources if isinstance(leaf, WriteRule) else [leaf.source]
                rule = number[leaf.rule] if isinstance(leaf, WriteRule) else -1
                traces = [(trie.template, node.samples[r]) for r in rows[:SAMPLES_PER_EDGE].tolist()]
                for argument, source in enumerate(sources):
                    is_same = (columns[rows] == columns[rows, source][:, None]).all(axis=0)
                    same_symbol = np.flatnonzero(is_same).tolist()
                    read = max(same_symbol, key=lambda u: (node.causes.effect.get(u, -1.0), u))
                    effect = node.causes.effect.get(read, -1.0)
                    edge = (trie.template, index, argument, source, read, rule)
                    yield _Edge(edge, effect, node.depth, read, same_symbol, traces)


@torch.no_grad()
def _sum_patterns(
    teacher: Teacher,
    edges: list[_Edge],
    traces: dict[TraceKey, TokenisedTrace],
    sums: list[NDArray[np.float32] | None],
) -> None:
    """Add to ``sums`` each edge's attention (L, H) over the tokens of the unit read, averaged over samples."""
    edges_of: dict[TraceKey, list[int]] = defaultdict(list)
    for e, edge in enumerate(edges):
        for key in edge.traces:
            edges_of[key].append(e)
    keys, items = list(traces), list(traces.values())
    for chunk, ids_BT, mask_BT in teacher.batches(items):
        pattern_LBHTT = torch.stack([p.float() for p in attention_patterns(teacher.model, ids_BT, mask_BT)])
        for row, i in enumerate(chunk):
            for e in edges_of[keys[i]]:
                edge = edges[e]
                t = items[i].content[edge.unit][0] - 1
                read_tokens = items[i].tokens_of_unit[edge.read]
                weight_LH = pattern_LBHTT[:, row, :, t][:, :, read_tokens].sum(-1) / len(edge.traces)
                total_LH, array_LH = sums[e], weight_LH.cpu().numpy()
                sums[e] = array_LH if total_LH is None else total_LH + array_LH


@torch.no_grad()
def _ablate(teacher: Teacher, edges: list[_Edge], traces: dict[TraceKey, TokenisedTrace]) -> NDArray[np.int8]:
    """By edge: 1 if masking its attention changes the step on a sample, 0 if not, -1 if the model takes no mask."""
    causal_M = np.full(len(edges), -1, dtype=np.int8)
    pairs = [(e, key) for e, edge in enumerate(edges) for key in edge.traces]
    items = [traces[key] for _, key in pairs]
    dtype = next(teacher.model.parameters()).dtype
    for chunk, ids_BT, mask_BT in teacher.batches(items, logits=True):
        n_tokens = ids_BT.shape[1]
        allowed_BTT = torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril()[None].repeat(len(chunk), 1, 1)
        allowed_BTT &= mask_BT.bool().cpu()[:, None, :] | torch.eye(n_tokens, dtype=torch.bool)[None]
        for row, i in enumerate(chunk):
            edge = edges[pairs[i][0]]
            for t in items[i].content[edge.unit]:
                keys = [x for unit in edge.same_symbol for x in items[i].tokens_of_unit[unit] if x < t - 1]
                allowed_BTT[row, t - 1, keys] = False
        bias_BTT = torch.zeros(allowed_BTT.shape, dtype=dtype).masked_fill(~allowed_BTT, torch.finfo(dtype).min)
        try:
            logits = teacher.model(
                input_ids=ids_BT, attention_mask=bias_BTT[:, None].to(ids_BT.device), use_cache=False
            ).logits
        except (RuntimeError, ValueError, TypeError, IndexError):
            return causal_M  # this architecture takes no mask per position; its edges stay at -1
        choice_BT = logits.argmax(-1).cpu()
        for row, i in enumerate(chunk):
            e = pairs[i][0]
            content = items[i].content[edges[e].unit]
            changed = any(int(choice_BT[row, t - 1]) != items[i].ids[t] for t in content)
            causal_M[e] = max(int(causal_M[e]), int(changed))
    return causal_M
