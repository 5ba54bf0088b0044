"""A head start in closed form: what the frozen student's stream looks like where it is about to write each token.

The student reads made-up traces twice in a row. In the second copy it knows what comes next, by its own
means; the state at the reader's block, averaged per next token and centred, is the student's own concept
state c^S of that token. Ridge regression from the teacher's pooled symbol states to c^S then starts phi where
gradient descent would only arrive later. Nothing but the probe spec, the graph's structure and the student
itself goes in.

Letters: V distinct tokens, E student width, J phases, P pool states, S symbols, U literals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from m2kt.models import decoder, record


@dataclass
class StudentTargets:
    """The frozen student's states: how those that are read are spread, and c^S where the reader writes."""

    mean_X: Tensor
    scale_X: Tensor
    level: float
    tokens: list[int]
    state_VE: Tensor  # unit directions of the centred states where each token comes next
    row_VE: Tensor  # unit directions of the tokens' centred output embeddings
    confidence: float  # mean probability of the right next token in the second copies
    unembedding: float = 0.5
    gain: float = 4.0
    start_loss: float = float("nan")  # of told writing before training, where it was measured
    n_tokens: int = 0  # that ran forward through the student to find all this

    @property
    def by_token(self) -> dict[int, Tensor]:
        """c^S per token: centred, in units of ``level``.

        The two directions agree on what the token is, not on the rest.
        """
        mixed_VE = _unit((1 - self.unembedding) * self.state_VE + self.unembedding * self.row_VE)
        size = self.gain * self.state_VE.shape[1] ** 0.5
        return dict(zip(self.tokens, size * mixed_VE, strict=True))


@torch.no_grad()
def student_targets(
    model: Any,
    sequences: Sequence[Sequence[int]],
    reads: Sequence[int],
    write: int,
    prefix: int,
    wanted: Iterable[int],
) -> StudentTargets:
    """Runs the frozen student over each sequence twice in a row and collects its states.

    Args:
        sequences: token ids of traces, special prefix included.
        reads: blocks whose states are read: their mean and spread are taken.
        write: block behind which the reader writes: c^S is taken there.
        prefix: number of special tokens in front; they are not repeated.
        wanted: tokens that must have a direction: those not met have their unembedding alone.
    """
    device = model.get_input_embeddings().weight.device
    layers = sorted({*reads, write})
    first: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    about: dict[int, list[tuple[float, Tensor]]] = {}
    sure: list[float] = []
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 30)
    for ids in sequences:
        twice = [*ids, *ids[prefix:]][:limit]
        with record(
            model, [layer + 1 for layer in layers]
        ) as seen:  # its layer i + 1 is what block i returns
            logits = model(input_ids=torch.tensor([twice], device=device), use_cache=False).logits[0].float()
        for layer in layers:
            first[layer].append(seen[layer + 1][0, max(1, prefix) : len(ids)].float())
        second = torch.arange(len(ids) - 1, len(twice) - 1, device=device)
        nexts = torch.tensor(twice[len(ids) :], device=device)
        p = logits[second].softmax(-1).gather(1, nexts[:, None])[:, 0].clamp(min=1e-3)
        sure.append(float(p.mean()))
        h_TE = seen[write + 1][0].float()
        for t, token, weight in zip(second.tolist(), nexts.tolist(), p.tolist(), strict=True):
            about.setdefault(token, []).append((weight, h_TE[t]))
    met = list(about)
    tokens = [*met, *sorted(set(wanted) - set(met))]
    means = [sum((w * h for w, h in about[t]), torch.zeros(())) / sum(w for w, _ in about[t]) for t in met]
    state_VE = torch.stack(means)
    row_VE = model.get_output_embeddings().weight[torch.tensor(tokens, device=device)].float()
    row_VE = _unit((row_VE - row_VE.mean(0)) * final_gain(model))
    state_VE = torch.cat([_unit(state_VE - state_VE.mean(0)), row_VE[len(met) :]])
    h_NE = torch.cat(first[write])
    read_NX = torch.cat([torch.cat(first[layer]) for layer in reads], -1)
    scale_X = read_NX.std(0)
    return StudentTargets(
        mean_X=read_NX.mean(0),
        scale_X=scale_X.clamp(min=1e-3 * float(scale_X.median()) + 1e-6),
        level=float(h_NE.std(0).median()),
        tokens=tokens,
        state_VE=state_VE,
        row_VE=row_VE,
        confidence=sum(sure) / len(sure),
        n_tokens=sum(min(limit, 2 * len(ids) - prefix) for ids in sequences),
    )


def _unit(x_VE: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x_VE, dim=-1, eps=1e-6)


def final_gain(model: Any) -> Tensor:
    """What the last normalisation multiplies each coordinate with before the unembedding sees it; 1 without one.

    Asked of the module itself: families differ in what their weight means (Gemma's gain is 1 + weight).
    """
    last: Any = None
    for _, module in decoder(model).named_children():
        weight = getattr(module, "weight", None)
        if "Norm" in type(module).__name__ and isinstance(weight, Tensor) and weight.dim() == 1:
            last = module
    if last is None:
        return torch.ones(())
    x_E = torch.ones_like(last.weight)
    x_E[1::2] = -1.0  # mean 0 and mean square 1: what is left is gain and bias
    with torch.no_grad():
        gain_E: Tensor = ((last(x_E) - last(-x_E)) / (2 * x_E)).float()
    return gain_E
