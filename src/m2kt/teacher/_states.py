"""States of the teacher where it is about to write a unit. Only what is asked for is kept.

Legend: N requests, L recorded layers, D width, T tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp

import numpy as np
import torch
from numpy.typing import NDArray

from m2kt.models import decoder, hidden_of, record
from m2kt.teacher._ask import Teacher
from m2kt.teacher._pool import Sample

Floats = NDArray[np.float32]
IN_FRONT_OF_HEAD = 1 << 20  # a layer of its own: behind the final norm


@dataclass(frozen=True)
class Request:
    """Where ``sample`` is about to write its unit ``unit``."""

    sample: Sample
    unit: int


@torch.no_grad()
def states(
    teacher: Teacher, requests: Sequence[Request], layers: Sequence[int], stage: str
) -> Iterator[tuple[int, Floats]]:
    """Yields (index of the request, states_LD): means over the positions that predict the unit's tokens.

    A bare leading space is not counted: the choice falls behind it. Memory is bounded by one batch.
    """
    wanted: dict[int, list[int]] = defaultdict(list)
    samples: dict[int, Sample] = {}
    for i, request in enumerate(requests):
        wanted[id(request.sample)].append(i)
        samples[id(request.sample)] = request.sample
    keys = list(wanted)
    items = [teacher.force([u.text for u in samples[k].units], samples[k].n_prompt) for k in keys]
    done = 0
    below = decoder(teacher.model)  # no logits are needed here
    inside = [layer for layer in layers if layer != IN_FRONT_OF_HEAD]
    for chunk, ids, mask in teacher.batches(items):
        rows: list[list[int]] = [[] for _ in chunk]
        kept: list[tuple[int, int, slice]] = []  # request, row, its part of what is kept of the row
        for row, item in enumerate(chunk):
            for i in wanted[keys[item]]:
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
    samples = {id(r.sample): r.sample for r in requests}
    number = {key: i for i, key in enumerate(samples)}
    items = [teacher.force([u.text for u in s.units], s.n_prompt) for s in samples.values()]
    wanted: list[set[int]] = [set() for _ in items]
    for request in requests:
        item = number[id(request.sample)]
        wanted[item].update(items[item].content[request.unit])
    log_p = teacher.log_p(items, [sorted(tokens) for tokens in wanted], stage)
    found = []
    for request in requests:
        item = number[id(request.sample)]
        found.append(min(1.0, exp(sum(log_p[item][t] for t in items[item].content[request.unit]))))
    return found


def gather(teacher: Teacher, requests: Sequence[Request], layers: Sequence[int], stage: str) -> Floats:
    """All states at once: (N, L, D). For bounded requests only."""
    found: Floats | None = None
    for i, state in states(teacher, requests, layers, stage):
        if found is None:
            found = np.zeros((len(requests), *state.shape), dtype=np.float32)
        found[i] = state
    return np.zeros((0, len(layers), 1), dtype=np.float32) if found is None else found
