"""States of the teacher where it is about to write a unit. Only what is asked for is kept.

Legend: N requests, L recorded layers, D width, B batch, T tokens, R positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2kt.models import decoder, hidden_of, record, states_at, width
from m2kt.teacher._ask import Forced, Teacher
from m2kt.teacher._pool import Sample

Floats = NDArray[np.float32]
IN_FRONT_OF_HEAD = 1 << 20  # a layer of its own: behind the final norm


@dataclass(frozen=True)
class Request:
    """Where ``sample`` is about to write its unit ``unit``."""

    sample: Sample
    unit: int


def _samples(teacher: Teacher, requests: Sequence[Request]) -> tuple[list[Forced], list[int]]:
    """The samples in the teacher's tokens, each once, and of every request the sample that it is of."""
    number: dict[int, int] = {}
    items: list[Forced] = []
    for sample in (request.sample for request in requests):
        if id(sample) not in number:
            number[id(sample)] = len(items)
            items.append(teacher.force(sample.texts, sample.n_prompt))
    return items, [number[id(request.sample)] for request in requests]


@torch.no_grad()
def gather(teacher: Teacher, requests: Sequence[Request], layers: Sequence[int], stage: str) -> Floats:
    """States (N, L, D): means over the positions that predict the unit's tokens. For bounded requests only.

    A bare leading space is not counted: the choice falls behind it.
    """
    items, item_of = _samples(teacher, requests)
    wanted: list[list[int]] = [[] for _ in items]
    for i, item in enumerate(item_of):
        wanted[item].append(i)
    found: Floats = np.zeros((len(requests), len(layers), width(teacher.model)), dtype=np.float32)
    done = 0
    for chunk, ids_BT, mask_BT in teacher.batches(items):
        kept: list[int] = []  # requests; of each, the positions that are averaged
        at: list[tuple[int, int, int]] = []  # number in ``kept``, row, position
        for row, item in enumerate(chunk):
            for i in wanted[item]:
                at += [(len(kept), row, t - 1) for t in items[item].content[requests[i].unit]]
                kept.append(i)
        owner_R, row_R, position_R = torch.tensor(at).T.to(ids_BT.device)
        h_LRD = _recorded(teacher, layers, ids_BT, mask_BT, row_R, position_R)
        sums_LND = h_LRD.new_zeros(len(layers), len(kept), h_LRD.shape[2]).index_add_(1, owner_R, h_LRD)
        found[kept] = (sums_LND / owner_R.bincount()[:, None]).transpose(0, 1).cpu().numpy()
        done += len(chunk)
        teacher.progress(stage, done, len(items))
    return found


def _recorded(
    teacher: Teacher,
    layers: Sequence[int],
    ids_BT: Tensor,
    mask_BT: Tensor,
    row_R: Tensor,
    position_R: Tensor,
) -> Tensor:
    """States (L, R, D) at R positions; no logits, and no pass through what lies behind the deepest layer."""
    selected_BT = torch.zeros_like(mask_BT, dtype=torch.bool)
    selected_BT[row_R, position_R] = True  # several requests may be of one position
    place_BT = selected_BT.flatten().cumsum(0).view_as(selected_BT) - 1
    arguments = {"input_ids": ids_BT, "attention_mask": mask_BT}
    if IN_FRONT_OF_HEAD in layers:
        inside = [layer for layer in layers if layer != IN_FRONT_OF_HEAD]
        with record(teacher.model, inside, select=selected_BT) as recorded:
            last_BTD = hidden_of(decoder(teacher.model)(**arguments, use_cache=False))
        recorded.states[IN_FRONT_OF_HEAD] = last_BTD[selected_BT]
    else:
        recorded = states_at(teacher.model, layers, select=selected_BT, **arguments)
    at_R = place_BT[row_R, position_R]
    return torch.stack([recorded[layer].float()[at_R] for layer in layers])


def sureness(teacher: Teacher, requests: Sequence[Request], stage: str) -> list[float]:
    """The teacher's probability of what it writes at each request, a bare leading space apart.

    A sample is read once, however many requests it serves.
    """
    items, item_of = _samples(teacher, requests)
    tokens = [items[item].content[request.unit] for item, request in zip(item_of, requests, strict=True)]
    wanted: list[set[int]] = [set() for _ in items]
    for item, own in zip(item_of, tokens, strict=True):
        wanted[item].update(own)
    log_p = teacher.log_p(items, wanted, stage)
    found = (sum(log_p[item][t] for t in own) for item, own in zip(item_of, tokens, strict=True))
    return [min(1.0, exp(log)) for log in found]
