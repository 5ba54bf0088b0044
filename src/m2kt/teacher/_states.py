"""States of the teacher where it is about to write a unit. Only what is asked for is kept.

Legend: N requests, L recorded layers, D width, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp

import numpy as np
import torch
from numpy.typing import NDArray

from m2kt.models import decoder, hidden_of, record
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
            items.append(teacher.force([u.text for u in sample.units], sample.n_prompt))
    return items, [number[id(request.sample)] for request in requests]


@torch.no_grad()
def states(
    teacher: Teacher, requests: Sequence[Request], layers: Sequence[int], stage: str
) -> Iterator[tuple[int, Floats]]:
    """Yields (index of the request, states_LD): means over the positions that predict the unit's tokens.

    A bare leading space is not counted: the choice falls behind it. Memory is bounded by one batch.
    """
    items, item_of = _samples(teacher, requests)
    wanted: list[list[int]] = [[] for _ in items]
    for i, item in enumerate(item_of):
        wanted[item].append(i)
    done = 0
    below = decoder(teacher.model)  # no logits are needed here
    inside = [layer for layer in layers if layer != IN_FRONT_OF_HEAD]
    for chunk, ids, mask in teacher.batches(items):
        rows: list[list[int]] = [[] for _ in chunk]
        kept: list[tuple[int, int, slice]] = []  # request, row, its part of what is kept of the row
        for row, item in enumerate(chunk):
            for i in wanted[item]:
                start = len(rows[row])
                rows[row] += [t - 1 for t in items[item].content[requests[i].unit]]
                kept.append((i, row, slice(start, len(rows[row]))))
        most = max(map(len, rows))
        index_BP = torch.tensor([row + [0] * (most - len(row)) for row in rows], device=ids.device)
        with record(teacher.model, inside, select=index_BP) as recorded:
            last_BTD = hidden_of(below(input_ids=ids, attention_mask=mask, use_cache=False))
        recorded.states[IN_FRONT_OF_HEAD] = torch.take_along_dim(last_BTD, index_BP[..., None], dim=1)
        h_LBPD = torch.stack([recorded[layer].float() for layer in layers])
        for i, row, part in kept:
            yield i, h_LBPD[:, row, part].mean(dim=1).cpu().numpy()
        done += len(chunk)
        teacher.progress(stage, done, len(items))


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


def gather(teacher: Teacher, requests: Sequence[Request], layers: Sequence[int], stage: str) -> Floats:
    """All states at once: (N, L, D). For bounded requests only."""
    found: Floats | None = None
    for i, state in states(teacher, requests, layers, stage):
        if found is None:
            found = np.zeros((len(requests), *state.shape), dtype=np.float32)
        found[i] = state
    return np.zeros((0, len(layers), 1), dtype=np.float32) if found is None else found
