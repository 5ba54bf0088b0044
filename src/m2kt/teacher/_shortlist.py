"""Candidate sources of each step by the teacher's attention: a shortlist, not a decision.

Letters: L layers, B batch, H heads, T tokens, X strongest links kept per query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2kt.errors import ModelError
from m2kt.models import attention_patterns, blocks
from m2kt.teacher._teacher import Teacher, TokenisedTrace

MAX_SOURCES = 8  # units per step; they held 95 to 100 % of those that change a step (ADR 24)
MAX_LINKS = 16  # strongest keys kept per query; weaker ones contribute next to nothing to a path
MAX_PATTERN_CELLS = 2**26  # of all layers' patterns at once

Shortlist = dict[int, frozenset[int]]  # by unit of the answer: the earlier units that it may depend on


@torch.no_grad()
def shortlist(
    teacher: Teacher, traces: Sequence[TokenisedTrace], candidates: Sequence[Sequence[int]]
) -> list[Shortlist] | None:
    """The few candidate units with the strongest paths to each answer unit, by trace; None without attention.

    A path's strength is the product of the largest attention over heads along each of its links.
    """
    shortlists: list[Shortlist] = [{}] * len(traces)
    done = 0
    try:
        with teacher.eager():
            for chunk, ids_BT, mask_BT in teacher.batches(traces):
                for rows in _row_slices(teacher, len(chunk), ids_BT.shape[1]):
                    path_BTT = strongest_paths(attention_patterns(teacher.model, ids_BT[rows], mask_BT[rows]))
                    for i, path_TT in zip(chunk[rows], path_BTT.cpu().numpy(), strict=True):
                        shortlists[i] = _strongest_sources(path_TT, traces[i], candidates[i])
                done += len(chunk)
                teacher.progress("reading attention", done, len(traces))
    except ModelError:
        return None
    return shortlists


def _row_slices(teacher: Teacher, n_rows: int, n_tokens: int) -> list[slice]:
    """Parts of a batch whose attention patterns fit ``MAX_PATTERN_CELLS``."""
    heads = getattr(teacher.model.config.get_text_config(), "num_attention_heads", 1)
    cells_per_row = len(blocks(teacher.model)) * heads * n_tokens * n_tokens
    size = max(1, MAX_PATTERN_CELLS // cells_per_row)
    return [slice(start, start + size) for start in range(0, n_rows, size)]


def strongest_paths(pattern_LBHTT: Sequence[Tensor]) -> Tensor:
    """Strength of the strongest path from each token (last axis) to each position (second axis): (B, T, T), 0..1."""
    b, _, t, _ = pattern_LBHTT[0].shape
    path_BTT = torch.eye(t, device=pattern_LBHTT[0].device).repeat(b, 1, 1)
    for pattern_BHTT in pattern_LBHTT:
        weight_BTX, key_BTX = pattern_BHTT.float().amax(dim=1).topk(min(MAX_LINKS, t), dim=-1)
        path_BTXT = path_BTT[torch.arange(b, device=key_BTX.device)[:, None, None], key_BTX]
        path_BTT = torch.maximum(path_BTT, (weight_BTX[..., None] * path_BTXT).amax(dim=2))
    return path_BTT


def _strongest_sources(path_TT: NDArray[np.float32], trace: TokenisedTrace, candidates: Sequence[int]) -> Shortlist:
    sources_of: Shortlist = {}
    for unit, tokens in enumerate(trace.tokens_of_unit):
        if not tokens or tokens[0] <= trace.answer_start:
            continue
        earlier = [c for c in candidates if c < unit and trace.tokens_of_unit[c]]
        path_T = path_TT[[t - 1 for t in tokens]].max(axis=0)
        strength = {c: float(path_T[trace.tokens_of_unit[c]].max()) for c in earlier}
        sources_of[unit] = frozenset(sorted(earlier, key=lambda c: -strength[c])[:MAX_SOURCES])
    return sources_of


def separable_groups(units: Iterable[int], listed: Mapping[int, Set[int]]) -> list[list[int]]:
    """Groups of units such that no step lists two units of a group: then a change identifies its cause."""
    dependents = {u: {step for step, sources in listed.items() if u in sources} for u in units}
    groups: list[list[int]] = []
    for unit in sorted(units, key=lambda u: -len(dependents[u])):
        for group in groups:
            if all(dependents[unit].isdisjoint(dependents[member]) for member in group):
                group.append(unit)
                break
        else:
            groups.append([unit])
    return groups
