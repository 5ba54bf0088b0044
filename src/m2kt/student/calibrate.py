"""A head start in closed form: what the frozen student's stream looks like where it is about to write each token.

The student reads made-up traces twice in a row. In the second copy it knows what comes next, by its own means; the state at
the reader's block, averaged per next token and centred, is the student's own concept state c^S of that token. Ridge
regression from the teacher's pooled symbol states to c^S then starts phi where gradient descent would only arrive later.
Nothing but the probe spec, the graph's structure and the student itself goes in.

Letters: V distinct tokens, E student width, J phases, P pool states, S symbols, U literals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from m2kt.models import record


@dataclass
class OwnStates:
    """The frozen student's states at one block."""

    mean_E: Tensor
    scale_E: Tensor
    level: float
    by_token: dict[int, Tensor]  # centred, in units of ``level``
    confidence: float  # mean probability of the right next token in the second copies


@torch.no_grad()
def own_states(
    model: Any, sequences: Sequence[Sequence[int]], layers: Sequence[int], prefix: int, unembedding: float, gain: float
) -> dict[int, OwnStates]:
    """Runs the frozen student over each sequence twice in a row and collects its states.

    Args:
        sequences: token ids of traces, special prefix included.
        layers: blocks to record.
        prefix: number of special tokens in front; they are not repeated.
        unembedding: share of the output embedding's direction in the targets.
        gain: length of the targets, in typical deviations of the stream.
    """
    device = model.get_input_embeddings().weight.device
    sums: dict[int, dict[int, Tensor]] = {layer: {} for layer in layers}
    weight: dict[int, float] = {}
    first: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    sure: list[float] = []
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 30)
    for ids in sequences:
        body = list(ids[prefix:])
        twice = [*ids, *body]
        if len(twice) > limit:
            twice = twice[:limit]
        with record(model, list(layers)) as seen:
            logits = model(input_ids=torch.tensor([twice], device=device), use_cache=False).logits[0].float()
        second = torch.arange(len(ids) - 1, len(twice) - 1, device=device)
        nexts = torch.tensor(twice[len(ids) :], device=device)
        p = logits[second].softmax(-1).gather(1, nexts[:, None])[:, 0]
        sure.append(float(p.mean()))
        for layer in layers:
            h_TE = seen[layer][0].float()
            first[layer].append(h_TE[max(1, prefix) : len(ids)])
            for t, token, w in zip(second.tolist(), nexts.tolist(), p.clamp(min=1e-3).tolist(), strict=True):
                old = sums[layer].get(token)
                sums[layer][token] = h_TE[t] * w if old is None else old + h_TE[t] * w
                if layer == layers[0]:
                    weight[token] = weight.get(token, 0.0) + w
    out_VE = model.get_output_embeddings().weight
    gamma_E = _final_gain(model)
    found: dict[int, OwnStates] = {}
    for layer in layers:
        h_NE = torch.cat(first[layer])
        mean_E, scale_E = h_NE.mean(0), h_NE.std(0)
        level = float(scale_E.median())
        states_VE = torch.stack([sums[layer][token] / weight[token] for token in weight])
        states_VE = _unit(states_VE - states_VE.mean(0))
        rows_VE = out_VE[torch.tensor(list(weight), device=device)].float() * gamma_E
        rows_VE = _unit(rows_VE - rows_VE.mean(0))
        typical = gain * h_NE.shape[1] ** 0.5
        target_VE = typical * _unit((1 - unembedding) * states_VE + unembedding * rows_VE)
        by_token = dict(zip(weight, target_VE, strict=True))
        found[layer] = OwnStates(mean_E, scale_E.clamp(min=1e-3 * level + 1e-6), level, by_token, sum(sure) / len(sure))
    return found


def _unit(x_VE: Tensor) -> Tensor:
    return x_VE / x_VE.norm(dim=-1, keepdim=True).clamp(min=1e-6)


def _final_gain(model: Any) -> Tensor:
    """The weight of the last normalisation, which scales what the unembedding sees."""
    from m2kt.student.cal.model import decoder

    last: Tensor | None = None
    for _, module in decoder(model).named_children():
        weight = getattr(module, "weight", None)
        if "Norm" in type(module).__name__ and isinstance(weight, Tensor) and weight.dim() == 1:
            last = weight.float()
    return torch.ones(()) if last is None else last


def ridge(x_PF: Tensor, y_PX: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights (F, X) and bias (X) of a ridge regression; the penalty is relative to the mean feature variance."""
    x_mean, y_mean = x_PF.mean(0), y_PX.mean(0)
    x, y = (x_PF - x_mean).double(), (y_PX - y_mean).double()
    gram = x.T @ x
    gram += torch.eye(len(gram), dtype=gram.dtype) * penalty * gram.diagonal().mean()
    w = torch.linalg.solve(gram, x.T @ y).float()
    return w, y_mean - x_mean @ w
