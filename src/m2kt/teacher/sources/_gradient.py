"""Gradient attribution: gradient times input of the chosen token's margin (the paper's second option)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from m2kt.models import blocks, hidden_of
from m2kt.teacher._ask import Teacher
from m2kt.teacher._pool import Pool
from m2kt.teacher._states import Request
from m2kt.teacher.sources._base import Floats, Plain, node_requests

PER_NODE = 4
MARGIN = 0.1  # attributions below this share of a step's largest count as none


class Gradient(Plain):
    """Attribution to input embeddings for candidates; contexts weighted by how much their state drives the choice."""

    name = "gradient"

    def candidates(self, teacher: Teacher, pool: Pool, *, seed: int) -> None:
        """Effect of a unit: its share of the step's largest |gradient x input|, averaged over samples."""
        for template, node, requests in node_requests(pool, PER_NODE):
            shape = pool.shapes[template]
            trie = shape.nodes[node]
            sums = np.zeros(trie.depth)
            for request in requests:
                sums += self._attribution(teacher, request)[: trie.depth]
            shares = sums / len(requests)
            trie.causes.effect = {
                p: float(shares[p]) if shares[p] > MARGIN else 0.0 for p in range(trie.depth)
            }

    def _attribution(self, teacher: Teacher, request: Request) -> NDArray[np.float64]:
        forced = teacher.force(request.sample.texts, request.sample.n_prompt)
        ids = torch.tensor([forced.ids], device=teacher.device)
        embedded = teacher.model.get_input_embeddings()(ids).detach().requires_grad_(True)
        with torch.enable_grad():
            logits = teacher.model(inputs_embeds=embedded, use_cache=False).logits[0].float()
            t = forced.content[request.unit][0]
            chosen = logits[t - 1, forced.ids[t]]
            others = logits[t - 1].clone()
            others[forced.ids[t]] = -torch.inf
            (gradient,) = torch.autograd.grad(chosen - others.max(), embedded)
        teacher.passes += 2
        token = (gradient * embedded).sum(-1).abs()[0].detach().float().cpu().numpy()
        units = np.array([max((token[t] for t in own), default=0.0) for own in forced.tokens_of_unit])
        units[request.unit :] = 0.0
        return units / max(float(units.max()), 1e-9)

    def weigh(self, teacher: Teacher, requests: Sequence[Request], layer: int) -> Floats:
        """Norm of the gradient of the chosen token's log-probability with respect to the state."""
        weights = np.ones(len(requests), dtype=np.float32)
        block = blocks(teacher.model)[layer - 1]
        for i, request in enumerate(requests):
            forced = teacher.force(request.sample.texts, request.sample.n_prompt)
            t = forced.content[request.unit][0]
            kept: list[torch.Tensor] = []
            handle = block.register_forward_hook(lambda m, a, out, kept=kept: kept.append(hidden_of(out)))
            try:
                ids = torch.tensor([forced.ids[:t]], device=teacher.device)
                embedded = teacher.model.get_input_embeddings()(ids).detach().requires_grad_(True)
                with torch.enable_grad():
                    logits = teacher.model(inputs_embeds=embedded, use_cache=False).logits[0, -1].float()
                    (gradient,) = torch.autograd.grad(logits.log_softmax(-1)[forced.ids[t]], kept[0])
            finally:
                handle.remove()
            weights[i] = float(gradient[0, -1].float().norm()) + 1e-6
        teacher.passes += 2 * len(requests)
        return weights
