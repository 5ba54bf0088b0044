"""Student targets c^S: the frozen student's own state where it is about to write each token.

The student reads each rehearsal trace twice in a row. In the second copy it can predict every token; its state at the
block where the reader writes, averaged per next token and centred, is c^S of that token. The closed-form start maps the
teacher's prototype samples to c^S. Inputs are the probe spec, the program's structure and the student alone.

Letters: V distinct tokens, E student width, X width of all blocks read, T tokens, N positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from m2kt.models import decoder, record


@dataclass
class StudentTargets:
    """Statistics of the states that the reader reads, and c^S at the block where it writes."""

    mean_X: Tensor
    scale_X: Tensor
    stream_scale: float
    """Median standard deviation of the residual stream at the block where the reader writes."""
    tokens: list[int]
    state_VE: Tensor
    """Unit directions of the centred states before each token."""
    row_VE: Tensor
    """Unit directions of the tokens' centred output embeddings."""
    confidence: float
    """Mean probability of the correct next token in the second copies."""
    unembedding: float = 0.5
    """Share of ``row_VE`` in the targets."""
    gain: float = 4.0
    """Length of the targets per square root of the width."""
    start_loss: float = float("nan")
    """Teacher-forced loss before training, where it was measured."""
    n_tokens: int = 0
    """Tokens of all forward passes for these targets."""

    @property
    def by_token(self) -> dict[int, Tensor]:
        """c^S per token: centred, in units of ``stream_scale``."""
        # The two directions agree on the token and differ in everything else.
        mixed_VE = _unit((1 - self.unembedding) * self.state_VE + self.unembedding * self.row_VE)
        length = self.gain * self.state_VE.shape[1] ** 0.5
        return dict(zip(self.tokens, length * mixed_VE, strict=True))


@torch.no_grad()
def student_targets(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    read_layers: Sequence[int],
    write_layer: int,
    prefix: int,
    required: Iterable[int],
) -> StudentTargets:
    """Run the frozen student over each sequence twice in a row and collect its states.

    Args:
        sequences: token ids of traces with the special prefix.
        read_layers: blocks whose states the reader reads: for their mean and spread.
        write_layer: block after which the reader writes: for c^S.
        prefix: number of special tokens in front, which are not repeated.
        required: tokens that need a target; those in no sequence get their output embedding alone.
    """
    device = cast(Tensor, model.get_input_embeddings().weight).device
    layers = sorted({*read_layers, write_layer})
    first_copies: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    weighted_states: dict[int, list[tuple[float, Tensor]]] = {}
    confidences: list[float] = []
    max_tokens = getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 30)
    for ids in sequences:
        doubled = [*ids, *ids[prefix:]][:max_tokens]
        # layer i + 1 of a recording is the output of block i
        with record(model, [layer + 1 for layer in layers]) as states:
            out = model(input_ids=torch.tensor([doubled], device=device), use_cache=False)
        logits_TV = out.logits[0].float()
        for layer in layers:
            first_copies[layer].append(states[layer + 1][0, max(1, prefix) : len(ids)].float())
        position_N = torch.arange(len(ids) - 1, len(doubled) - 1, device=device)
        next_N = torch.tensor(doubled[len(ids) :], device=device)
        p_N = logits_TV[position_N].softmax(-1).gather(1, next_N[:, None])[:, 0].clamp(min=1e-3)
        confidences.append(float(p_N.mean()))
        h_TE = states[write_layer + 1][0].float()
        for t, token, p in zip(position_N.tolist(), next_N.tolist(), p_N.tolist(), strict=True):
            weighted_states.setdefault(token, []).append((p, h_TE[t]))
    observed = list(weighted_states)
    tokens = [*observed, *sorted(set(required) - set(observed))]
    state_VE = torch.stack([_weighted_mean(states) for states in weighted_states.values()])
    row_VE = model.get_output_embeddings().weight[torch.tensor(tokens, device=device)].float()
    row_VE = _unit((row_VE - row_VE.mean(0)) * final_gain(model))
    state_VE = torch.cat([_unit(state_VE - state_VE.mean(0)), row_VE[len(observed) :]])
    written_NE = torch.cat(first_copies[write_layer])
    read_NX = torch.cat([torch.cat(first_copies[layer]) for layer in read_layers], -1)
    scale_X = read_NX.std(0)
    return StudentTargets(
        mean_X=read_NX.mean(0),
        scale_X=scale_X.clamp(min=1e-3 * float(scale_X.median()) + 1e-6),
        stream_scale=float(written_NE.std(0).median()),
        tokens=tokens,
        state_VE=state_VE,
        row_VE=row_VE,
        confidence=sum(confidences) / len(confidences),
        n_tokens=sum(min(max_tokens, 2 * len(ids) - prefix) for ids in sequences),
    )


def _weighted_mean(weighted_states: Sequence[tuple[float, Tensor]]) -> Tensor:
    total_E = sum((p * h_E for p, h_E in weighted_states), torch.zeros(()))
    return total_E / sum(p for p, _ in weighted_states)


def _unit(x_VE: Tensor) -> Tensor:
    return functional.normalize(x_VE, dim=-1, eps=1e-6)


def final_gain(model: nn.Module) -> Tensor:
    """Factor of the final normalisation on each coordinate before the unembedding, (E,); 1 without a normalisation.

    It is measured, because families differ in what the weight means (Gemma's gain is 1 + weight).
    """
    norm: nn.Module | None = None
    weight_E = torch.ones(())
    for _, module in decoder(model).named_children():
        weight = getattr(module, "weight", None)
        if "Norm" in type(module).__name__ and isinstance(weight, Tensor) and weight.dim() == 1:
            norm, weight_E = module, weight
    if norm is None:
        return torch.ones(())
    x_E = torch.ones_like(weight_E)
    x_E[1::2] = -1.0  # mean 0 and mean square 1: the result is gain and bias
    with torch.no_grad():
        gain_E: Tensor = ((norm(x_E) - norm(-x_E)) / (2 * x_E)).float()
    return gain_E
