"""Hidden states of the teacher at the positions that predict a unit. Only requested positions and layers are kept.

Letters: N contexts, L recorded layers, D width, B batch, T tokens, X selected positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Cache

from m2kt.models import decoder, hidden_of, record, states_at, width
from m2kt.teacher._teacher import Batch, Teacher, TokenisedTrace
from m2kt.teacher.program._cut import Sample

Floats = NDArray[np.float32]
FINAL_NORM = 1 << 20  # the layer number of the state after the final norm, which enters the output head


@dataclass(frozen=True)
class Context:
    """``sample`` up to its unit ``unit``, which the teacher predicts next."""

    sample: Sample
    unit: int


def _traces(teacher: Teacher, contexts: Sequence[Context]) -> tuple[list[TokenisedTrace], list[int]]:
    """The distinct samples in the teacher's tokens, and the index of each context's sample among them."""
    index: dict[int, int] = {}
    traces: list[TokenisedTrace] = []
    for sample in (context.sample for context in contexts):
        if id(sample) not in index:
            index[id(sample)] = len(traces)
            traces.append(teacher.tokenise(sample.texts, sample.n_prompt))
    return traces, [index[id(context.sample)] for context in contexts]


@torch.no_grad()
def record_contexts(teacher: Teacher, contexts: Sequence[Context], layers: Sequence[int], stage: str) -> Floats:
    """States (N, L, D), each a mean over the positions that predict the unit's tokens.

    A bare leading space is left out: the symbol is chosen after it. All states are held in memory at once.
    """
    traces, trace_of = _traces(teacher, contexts)
    contexts_of: list[list[int]] = [[] for _ in traces]
    for i, trace in enumerate(trace_of):
        contexts_of[trace].append(i)
    state_NLD: Floats = np.zeros((len(contexts), len(layers), width(teacher.model)), dtype=np.float32)
    done = 0
    for batch in teacher.batches(traces):
        batch_contexts: list[int] = []
        positions: list[tuple[int, int, int]] = []  # index into ``batch_contexts``, row, token position
        for row, trace in enumerate(batch.rows):
            for i in contexts_of[trace]:
                content = traces[trace].content[contexts[i].unit]
                positions += [(len(batch_contexts), row, t - 1 - batch.skipped) for t in content]
                batch_contexts.append(i)
        context_X, row_X, token_X = torch.tensor(positions).T.to(teacher.device)
        h_LXD = _record(teacher, layers, batch, row_X, token_X)
        sums_LND = h_LXD.new_zeros(len(layers), len(batch_contexts), h_LXD.shape[2])
        sums_LND.index_add_(1, context_X, h_LXD)
        means_NLD = (sums_LND / context_X.bincount()[:, None]).transpose(0, 1)
        state_NLD[batch_contexts] = means_NLD.cpu().numpy()
        done += len(batch.rows)
        teacher.progress(stage, done, len(traces))
    return state_NLD


def _record(teacher: Teacher, layers: Sequence[int], batch: Batch, row_X: Tensor, token_X: Tensor) -> Tensor:
    """States (L, X, D) at X positions. Computes no logits, and no block after the deepest layer."""
    selected_BT = torch.zeros_like(batch.real_BT, dtype=torch.bool)
    selected_BT[row_X, token_X] = True  # several contexts may share a position
    index_BT = selected_BT.flatten().cumsum(0).view_as(selected_BT) - 1
    arguments: dict[str, Tensor | Cache] = {"input_ids": batch.ids_BT, "attention_mask": batch.mask}
    past = batch.past()
    if past is not None:
        arguments["past_key_values"] = past
    if FINAL_NORM in layers:
        inner_layers = [layer for layer in layers if layer != FINAL_NORM]
        with record(teacher.model, inner_layers, select=selected_BT) as recorded:
            output = decoder(teacher.model)(**arguments, use_cache=False)
        recorded.states[FINAL_NORM] = hidden_of(output)[selected_BT]
    else:
        recorded = states_at(teacher.model, layers, select=selected_BT, **arguments)
    index_X = index_BT[row_X, token_X]
    return torch.stack([recorded[layer].float()[index_X] for layer in layers])


def output_probability(teacher: Teacher, contexts: Sequence[Context], stage: str) -> list[float]:
    """The teacher's probability of each context's unit, without a bare leading space.

    A sample takes one forward pass, however many contexts share it.
    """
    traces, trace_of = _traces(teacher, contexts)
    content = [traces[trace].content[context.unit] for trace, context in zip(trace_of, contexts, strict=True)]
    needed: list[set[int]] = [set() for _ in traces]
    for trace, tokens in zip(trace_of, content, strict=True):
        needed[trace].update(tokens)
    log_p = teacher.log_p(traces, needed, stage)
    totals = (sum(log_p[trace][t] for t in tokens) for trace, tokens in zip(trace_of, content, strict=True))
    return [min(1.0, exp(total)) for total in totals]
