"""Attention along the edges of the graph, and which edges are causal.

An edge runs from the position that predicts a step to the unit it reads. It is causal when cutting it (no attention
from there to any copy of that unit's symbol, in all layers) changes the step on a sample; an edge that is attended
without effect is said to be so. Legend: M edges, L layers, H heads, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from m2kt.errors import ModelError
from m2kt.models import attention_patterns, blocks
from m2kt.packet import WriteCopy, WriteRule
from m2kt.teacher._ask import Forced, Teacher
from m2kt.teacher._condense import Draft, leaf_rows
from m2kt.teacher._pool import Pool

SAMPLES = 3  # an edge
HEAD_OF_EDGE = ("template", "node", "argument", "source", "read", "rule")


@dataclass
class Attention:
    """Tensors of attention.safetensors, and the share of causal edges."""

    edges_M6: NDArray[
        np.int32
    ]  # columns: HEAD_OF_EDGE; rule is -1 for copies; node counts in the packet's graph
    weight_MLH: NDArray[np.float32]
    effect_M: NDArray[
        np.float32
    ]  # share of interventions on the read unit that changed the step, -1 where untried
    causal_M: NDArray[np.int8]  # 1 cut and changed, 0 cut and unchanged, -1 could not be cut
    causal_share: float
    note: str | None = None

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """By name."""
        return {n: getattr(self, n) for n in ("edges_M6", "weight_MLH", "effect_M", "causal_M")}


@dataclass
class _Edge:
    head: tuple[int, ...]
    effect: float
    unit: int
    alike: list[int]  # units that always hold the read symbol
    samples: list[int]


def attend(teacher: Teacher, pool: Pool, draft: Draft, number: dict[int, int]) -> Attention:
    """Measures every edge on a few samples. ``number``: draft rule to packet rule."""
    edges = list(_edges(pool, draft, number))
    depth = len(blocks(teacher.model))
    needed = sorted({(e.head[0], i) for e in edges for i in e.samples})
    forced: dict[tuple[int, int], Forced] = {}
    for template, i in needed:
        sample = pool.shapes[template].samples[i]
        forced[template, i] = teacher.force(sample.texts, sample.n_prompt)
    sums: list[NDArray[np.float32] | None] = [None] * len(edges)
    note = None
    try:
        with teacher.eager():
            _sum_patterns(teacher, edges, forced, needed, sums)
            causal = _cut(teacher, edges, forced)
    except ModelError as error:
        note = f"no attention patterns: {error}"
        causal = np.full(len(edges), -1, dtype=np.int8)
    weight = (
        np.stack([s if s is not None else np.zeros((depth, 1), dtype=np.float32) for s in sums])
        if edges
        else None
    )
    cut = causal >= 0
    return Attention(
        np.array([e.head for e in edges], dtype=np.int32).reshape(-1, len(HEAD_OF_EDGE)),
        weight if weight is not None else np.zeros((0, depth, 1), dtype=np.float32),
        np.array([e.effect for e in edges], dtype=np.float32),
        causal,
        float((causal[cut] == 1).mean()) if cut.any() else float("nan"),
        note,
    )


def _edges(pool: Pool, draft: Draft, number: dict[int, int]) -> Iterator[_Edge]:
    for shape in pool.shapes:
        kept = [n for n in range(len(shape.nodes)) if (shape.template, n) in draft.decisions]
        for index, node in enumerate(kept):
            trie = shape.nodes[node]
            columns = shape.columns(node)
            for leaf, rows in leaf_rows(
                draft.decisions[shape.template, node], columns, np.arange(len(columns))
            ):
                if not isinstance(leaf, (WriteRule, WriteCopy)) or not len(rows):
                    continue
                sources = leaf.sources if isinstance(leaf, WriteRule) else [leaf.source]
                rule = number[leaf.rule] if isinstance(leaf, WriteRule) else -1
                for argument, source in enumerate(sources):
                    same = (columns[rows] == columns[rows, source][:, None]).all(axis=0)
                    alike = np.flatnonzero(same).tolist()
                    read = max(alike, key=lambda p: (trie.causes.effect.get(p, -1.0), p))
                    head = (shape.template, index, argument, source, read, rule)
                    some = [trie.samples[r] for r in rows[:SAMPLES].tolist()]
                    yield _Edge(head, trie.causes.effect.get(read, -1.0), trie.depth, alike, some)


@torch.no_grad()
def _sum_patterns(
    teacher: Teacher,
    edges: list[_Edge],
    forced: dict[tuple[int, int], Forced],
    needed: list[tuple[int, int]],
    sums: list[NDArray[np.float32] | None],
) -> None:
    """Mean attention (L, H) from the predicting position to the read unit's tokens, summed over those."""
    of_sample: dict[tuple[int, int], list[int]] = {}
    for e, edge in enumerate(edges):
        for i in edge.samples:
            of_sample.setdefault((edge.head[0], i), []).append(e)
    items = [forced[key] for key in needed]
    for chunk, ids, mask in teacher.batches(items):
        pattern_LBHTT = torch.stack([p.float() for p in attention_patterns(teacher.model, ids, mask)])
        for row, item in enumerate(chunk):
            for e in of_sample[needed[item]]:
                t = items[item].content[edges[e].unit][0] - 1
                read = items[item].tokens_of_unit[edges[e].head[4]]
                found = (
                    (pattern_LBHTT[:, row, :, t][:, :, read].sum(-1) / len(edges[e].samples)).cpu().numpy()
                )
                before = sums[e]
                sums[e] = found if before is None else before + found


@torch.no_grad()
def _cut(teacher: Teacher, edges: list[_Edge], forced: dict[tuple[int, int], Forced]) -> NDArray[np.int8]:
    causal = np.full(len(edges), -1, dtype=np.int8)
    items, owner = [], []
    for e, edge in enumerate(edges):
        for i in edge.samples:
            items.append(forced[edge.head[0], i])
            owner.append(e)
    dtype = next(teacher.model.parameters()).dtype
    for chunk, ids, mask in teacher.batches(items, logits=True):
        width = ids.shape[1]
        allowed = torch.ones(width, width, dtype=torch.bool).tril()[None].repeat(len(chunk), 1, 1)
        allowed &= mask.bool().cpu()[:, None, :] | torch.eye(width, dtype=torch.bool)[None]
        for row, item in enumerate(chunk):
            edge = edges[owner[item]]
            for t in items[item].content[edge.unit]:
                blocked = [x for unit in edge.alike for x in items[item].tokens_of_unit[unit] if x < t - 1]
                allowed[row, t - 1, blocked] = False
        bias = torch.zeros(allowed.shape, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
        try:
            logits = teacher.model(
                input_ids=ids, attention_mask=bias[:, None].to(ids.device), use_cache=False
            ).logits
        except (RuntimeError, ValueError, TypeError, IndexError):
            return causal  # this architecture takes no mask of its own shape: edges stay unmarked, and it is said
        best = logits.argmax(-1).cpu()
        for row, item in enumerate(chunk):
            content = items[item].content[edges[owner[item]].unit]
            changed = any(int(best[row, t - 1]) != items[item].ids[t] for t in content)
            causal[owner[item]] = max(int(causal[owner[item]]), int(changed))
    return causal
