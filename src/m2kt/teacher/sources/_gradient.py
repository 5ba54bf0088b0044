"""Gradient attribution: gradient times input of the chosen token's margin (the paper's second option).

Letters: N contexts, T tokens, D width, U units.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from m2kt.models import BlockOutput, blocks, hidden_of
from m2kt.teacher._edges import Edge
from m2kt.teacher._states import Context
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.sources._base import NOT_MEASURED, EqualWeights, Floats

PER_EDGE = 4
MIN_SHARE = 0.1  # of a step's largest attribution; smaller ones count as none


class Gradient(EqualWeights):
    """Attribution to input embeddings for effects; contexts weighted by how much their state drives the choice."""

    def effects(self, teacher: Teacher, edges: Sequence[Edge], *, seed: int) -> list[float]:
        """The share of the step's largest |gradient x input|, averaged over samples."""
        return [self._effect(teacher, edge) for edge in edges]

    def _effect(self, teacher: Teacher, edge: Edge) -> float:
        uses = edge.uses[:PER_EDGE]
        if not uses:
            return NOT_MEASURED
        shares = [max(self._attribution(teacher, use.context)[list(use.held)].tolist()) for use in uses]
        mean = sum(shares) / len(shares)
        return mean if mean > MIN_SHARE else 0.0

    def _attribution(self, teacher: Teacher, context: Context) -> NDArray[np.float64]:
        """By unit (U,), as a share of the largest."""
        trace = teacher.tokenise(context.sample.texts, context.sample.n_prompt)
        ids = torch.tensor([trace.ids], device=teacher.device)
        embedded = teacher.model.get_input_embeddings()(ids).detach().requires_grad_(True)
        with torch.enable_grad():
            logits = teacher.model(inputs_embeds=embedded, use_cache=False).logits[0].float()
            t = trace.content[context.unit][0]
            chosen = logits[t - 1, trace.ids[t]]
            rest = logits[t - 1].clone()
            rest[trace.ids[t]] = -torch.inf
            (gradient,) = torch.autograd.grad(chosen - rest.max(), embedded)
        teacher.passes += 2
        token_T = (gradient * embedded).sum(-1).abs()[0].detach().float().cpu().numpy()
        unit_U = np.array([max((token_T[t] for t in tokens), default=0.0) for tokens in trace.tokens_of_unit])
        unit_U[context.unit :] = 0.0
        return unit_U / max(float(unit_U.max()), 1e-9)

    def context_weights(self, teacher: Teacher, contexts: Sequence[Context], layer: int) -> Floats:
        """Norm of the gradient of the chosen token's log-probability with respect to the state."""
        weight_N = np.ones(len(contexts), dtype=np.float32)
        block = blocks(teacher.model)[layer - 1]
        for i, context in enumerate(contexts):
            trace = teacher.tokenise(context.sample.texts, context.sample.n_prompt)
            t = trace.content[context.unit][0]
            recorded: list[Tensor] = []

            def keep(_block: nn.Module, _args: object, output: BlockOutput, recorded: list[Tensor] = recorded) -> None:
                recorded.append(hidden_of(output))

            handle = block.register_forward_hook(keep)
            try:
                ids = torch.tensor([trace.ids[:t]], device=teacher.device)
                embedded = teacher.model.get_input_embeddings()(ids).detach().requires_grad_(True)
                with torch.enable_grad():
                    logits = teacher.model(inputs_embeds=embedded, use_cache=False).logits[0, -1].float()
                    (gradient,) = torch.autograd.grad(logits.log_softmax(-1)[trace.ids[t]], recorded[0])
            finally:
                handle.remove()
            weight_N[i] = float(gradient[0, -1].float().norm()) + 1e-6
        teacher.passes += 2 * len(contexts)
        return weight_N
