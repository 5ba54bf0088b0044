"""Which earlier units a step can have read most of, as the teacher's attention tells: a shortlist, not a verdict.

Legend: L layers, B batch, H heads, T tokens, K keys kept a query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2kt.errors import ModelError
from m2kt.models import attention_patterns, blocks
from m2kt.teacher._ask import Forced, Teacher

LISTED = 8  # units a step; of those that change a step 95 to 100 % were among them (ADR 24)
KEYS = 16  # a query: links that are weaker than all of them carry next to nothing of a path
PATTERN_CELLS = 2**26  # of all layers' patterns at once

Reading = dict[int, frozenset[int]]  # by unit of the answer: the earlier units that it may have read


@torch.no_grad()
def shortlist(
    teacher: Teacher, items: Sequence[Forced], candidates: Sequence[Sequence[int]]
) -> list[Reading] | None:
    """Of every item, the few candidate units that reach each answered unit most; None without attention.

    What reaches a position through several layers counts as its strongest path: the product of the attention of the
    strongest head along each link.
    """
    found: list[Reading] = [{}] * len(items)
    done = 0
    try:
        with teacher.eager():
            for chunk, ids_BT, mask_BT in teacher.batches(items):
                for rows in _few(teacher, len(chunk), ids_BT.shape[1]):
                    path_BTT = strongest_paths(attention_patterns(teacher.model, ids_BT[rows], mask_BT[rows]))
                    for i, path_TT in zip(chunk[rows], path_BTT.cpu().numpy(), strict=True):
                        found[i] = _listed(path_TT, items[i], candidates[i])
                done += len(chunk)
                teacher.progress("reading attention", done, len(items))
    except ModelError:
        return None
    return found


def _few(teacher: Teacher, n: int, width: int) -> list[slice]:
    heads = getattr(teacher.model.config.get_text_config(), "num_attention_heads", 1)
    each = len(blocks(teacher.model)) * heads * width * width
    size = max(1, PATTERN_CELLS // each)
    return [slice(start, start + size) for start in range(0, n, size)]


def strongest_paths(pattern_LBHTT: Sequence[Tensor]) -> Tensor:
    """How much of each token (last axis) reaches each position (the one before) at most: (B, T, T), in 0..1."""
    b, _, t, _ = pattern_LBHTT[0].shape
    path_BTT = torch.eye(t, device=pattern_LBHTT[0].device).repeat(b, 1, 1)
    for pattern_BHTT in pattern_LBHTT:
        weight_BTK, key_BTK = pattern_BHTT.float().amax(dim=1).topk(min(KEYS, t), dim=-1)
        through_BTKT = path_BTT[torch.arange(b, device=key_BTK.device)[:, None, None], key_BTK]
        path_BTT = torch.maximum(path_BTT, (weight_BTK[..., None] * through_BTKT).amax(dim=2))
    return path_BTT


def _listed(path_TT: NDArray[np.float32], item: Forced, candidates: Sequence[int]) -> Reading:
    reading: Reading = {}
    for unit, tokens in enumerate(item.tokens_of_unit):
        if not tokens or tokens[0] <= item.first_answered:
            continue
        earlier = [c for c in candidates if c < unit and item.tokens_of_unit[c]]
        from_T = path_TT[[t - 1 for t in tokens]].max(axis=0)
        reach = {c: float(from_T[item.tokens_of_unit[c]].max()) for c in earlier}
        reading[unit] = frozenset(sorted(earlier, key=lambda c: -reach[c])[:LISTED])
    return reading


def apart(positions: Iterable[int], reading: Mapping[int, Set[int]]) -> list[list[int]]:
    """Positions in groups of which no step has listed two: what changes tells which of a group did it."""
    readers = {p: {unit for unit, listed in reading.items() if p in listed} for p in positions}
    groups: list[list[int]] = []
    for p in sorted(positions, key=lambda p: -len(readers[p])):
        for group in groups:
            if all(readers[p].isdisjoint(readers[q]) for q in group):
                group.append(p)
                break
        else:
            groups.append([p])
    return groups
