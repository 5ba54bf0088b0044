"""Separability of a skill's symbols in the frozen student: in the states that keys are made of, and in its head.

Letters: N applications of a rule, A arguments, X width of all blocks read, C symbols or tokens, E student width,
K concepts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import PreTrainedModel

from m2kt.models import states_at
from m2kt.student._batching import collate
from m2kt.student._calibrate import final_gain
from m2kt.student._rehearsal import Rehearsal
from m2kt.student.cal import CALConfig

TRACES = 64
RIDGE = 1e-2  # penalty relative to the mean squared length of a state
HULL_STEPS = 300  # of Gilbert's algorithm; each is a product with the tokens' Gram matrix


class ArgumentKeys(BaseModel):
    """How well the student's states identify the symbols of one argument of a rule."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str = Field(description="Name of the rule.")
    argument: int = Field(description="Index of the argument, from 0.")
    told_apart: float = Field(description="Leave-one-out accuracy of a ridge probe.")
    chance: float = Field(description="Share of the most frequent symbol.")
    n: int = Field(description="Number of applications of the rule.")
    worst_pair: tuple[str, str] | None = Field(description="The pair of symbols confused most often.")
    confused: float = Field(description="Share of that pair's states that are confused.")
    recall: dict[str, float] = Field(description="Accuracy by symbol.")


@dataclass(frozen=True)
class Keys:
    """The student's states where rules are applied in rehearsal traces."""

    rule_N: Tensor
    symbol_NA: Tensor  # -1 where a rule has no such argument
    state_NAX: Tensor


@torch.no_grad()
def collect_keys(model: PreTrainedModel, rehearsal: Rehearsal, config: CALConfig, n: int = TRACES) -> Keys:
    """One pass over rehearsal traces; states are taken where the reader forms its keys.

    For the structured reader that is the token of each argument, for the flat reader the position before the concept.
    """
    traces = [rehearsal.encode(*draw, config) for draw in rehearsal.draw(n)]
    batch = collate(traces, cast(Tensor, model.get_input_embeddings().weight).device)
    layers = [layer + 1 for layer in config.read_layers]  # layer i + 1 of a recording is the output of block i
    states = states_at(model, layers, input_ids=batch.token_BT, attention_mask=batch.mask_BT)
    state_BTX = torch.cat([states[layer].float() for layer in layers], -1)
    b, t = (batch.supervision.concept_BT >= 0).nonzero(as_tuple=True)
    source_NA = batch.supervision.source_BTA[b, t]
    position_NA = t[:, None].expand_as(source_NA) if config.reader == "flat" else source_NA.clamp(min=0)
    rule_K, argument_KA = concept_arguments(config, source_NA.shape[1])
    concept_N = batch.supervision.concept_BT[b, t].cpu()
    return Keys(
        rule_N=rule_K[concept_N],
        symbol_NA=argument_KA[concept_N],
        state_NAX=state_BTX[b[:, None], position_NA].cpu(),
    )


def concept_arguments(config: CALConfig, n_arguments: int) -> tuple[Tensor, Tensor]:
    """Per concept its rule, (K,), and its argument symbols, (K, A), -1 for absent ones."""
    rule_K = torch.zeros(config.n_concepts, dtype=torch.long)
    argument_KA = torch.full((config.n_concepts, n_arguments), -1)
    for r, rule in enumerate(config.rules):
        rows = slice(int(rule["offset"]), int(rule["offset"]) + len(rule["rows"]))
        rule_K[rows] = r
        argument_KA[rows, : int(rule["arity"])] = torch.tensor(rule["rows"]).reshape(-1, int(rule["arity"]))
    return rule_K, argument_KA


def argument_separability(keys: Keys, config: CALConfig) -> list[ArgumentKeys]:
    """The separability of every argument of every rule that was applied."""
    results = []
    for r, rule in enumerate(config.rules):
        for a in range(int(rule["arity"])):
            applied_N = keys.rule_N == r
            if applied_N.any():
                state_NX, symbol_N = keys.state_NAX[applied_N, a], keys.symbol_NA[applied_N, a]
                results.append(_separability(str(rule["name"]), a, state_NX, symbol_N, config.symbols))
    return results


def _separability(rule: str, argument: int, state_NX: Tensor, symbol_N: Tensor, names: Sequence[str]) -> ArgumentKeys:
    predicted_N = leave_one_out(state_NX, symbol_N)
    count = Counter(symbol_N.tolist())
    confusions: Counter[tuple[int, int]] = Counter()
    for symbol, predicted in zip(symbol_N.tolist(), predicted_N.tolist(), strict=True):
        if symbol != predicted:
            confusions[(min(symbol, predicted), max(symbol, predicted))] += 1
    share = {pair: n / (count[pair[0]] + count[pair[1]]) for pair, n in confusions.items()}
    worst = max(share, key=lambda pair: (share[pair], pair), default=None)
    return ArgumentKeys(
        rule=rule,
        argument=argument,
        told_apart=float((predicted_N == symbol_N).float().mean()),
        chance=max(count.values()) / len(symbol_N),
        n=len(symbol_N),
        worst_pair=None if worst is None else (names[worst[0]], names[worst[1]]),
        confused=0.0 if worst is None else share[worst],
        recall={names[s]: float((predicted_N == s)[symbol_N == s].float().mean()) for s in count},
    )


def leave_one_out(x_NX: Tensor, label_N: Tensor) -> Tensor:
    """The label of each row that a ridge probe fitted on the other rows predicts, (N,).

    In closed form: a row's residual without it is its residual divided by 1 - h, with h the diagonal of the hat matrix.
    """
    classes_C = label_N.unique()
    z_NX = x_NX.double()
    z_NX = (z_NX - z_NX.mean(0)) / z_NX.std(0).clamp(min=1e-6)
    target_NC = (label_N[:, None] == classes_C).double()
    gram_NN = z_NX @ z_NX.T + 1.0  # a constant feature for the bias
    penalty = RIDGE * gram_NN.diagonal().mean()
    hat_NN = torch.linalg.solve(gram_NN + penalty * torch.eye(len(z_NX), dtype=gram_NN.dtype), gram_NN)
    residual_NC = (target_NC - hat_NN @ target_NC) / (1 - hat_NN.diagonal())[:, None]
    predicted_N: Tensor = classes_C[(target_NC - residual_NC).argmax(-1)]
    return predicted_N


def hull_distance(model: PreTrainedModel, tokens: Sequence[int]) -> Tensor:
    """Distance of each token's output embedding from the convex hull of the others, in median distances, (C,).

    It is the largest margin by which a state of the stream can give the token the largest logit. At 0 the token is
    never written (the softmax bottleneck; Demeter et al., ACL 2020): its row lies among the others' or equals one.
    Computed by Gilbert's algorithm on the Gram matrix; an upper bound. A bias of the head is left out.
    """
    row_CE = model.get_output_embeddings().weight[torch.tensor(tokens)].detach().double().cpu()
    row_CE = row_CE * final_gain(model).detach().double().cpu()
    n = len(tokens)
    if n < 2:
        return torch.ones(n)
    gram_CC = row_CE @ row_CE.T
    square_C = gram_CC.diagonal()
    distance_CC = (square_C[:, None] + square_C - 2 * gram_CC).clamp(min=0).sqrt()
    median = float(distance_CC[~torch.eye(n, dtype=torch.bool)].median())
    # weight_CC[i]: the nearest point to i so far in the hull of all but i
    weight_CC = torch.zeros(n, n, dtype=gram_CC.dtype)
    weight_CC[torch.arange(n), distance_CC.fill_diagonal_(torch.inf).argmin(-1)] = 1.0
    for _ in range(HULL_STEPS):
        gradient_CC = (weight_CC - torch.eye(n, dtype=gram_CC.dtype)) @ gram_CC  # (p_i - r_i) . r_j
        vertex_C = gradient_CC.clone().fill_diagonal_(torch.inf).argmin(-1)
        direction_CC = torch.nn.functional.one_hot(vertex_C, n).double() - weight_CC
        curvature_C = ((direction_CC @ gram_CC) * direction_CC).sum(-1)
        step_C = -(gradient_CC * direction_CC).sum(-1) / curvature_C.clamp(min=1e-12)
        weight_CC += step_C.clamp(0, 1)[:, None] * direction_CC
    offset_CC = weight_CC - torch.eye(n, dtype=gram_CC.dtype)
    distance_C: Tensor = ((offset_CC @ gram_CC) * offset_CC).sum(-1).clamp(min=0).sqrt() / max(median, 1e-12)
    return distance_C
