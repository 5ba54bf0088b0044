"""Can the frozen student tell a skill's symbols apart: in its states, where a reader's keys are read, and in its head?

Letters: N applications of a rule, A arguments, X widths of all blocks read, C symbols or tokens told apart, E width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from m2kt.models import states_at
from m2kt.student._batching import collate
from m2kt.student._calibrate import final_gain
from m2kt.student._rehearsal import Rehearsal
from m2kt.student.cal import CALConfig

TRACES = 64
RIDGE = 1e-2  # penalty relative to the mean squared length of a state
HULL_STEPS = 300  # of Gilbert's algorithm; each is a product of the tokens' Gram matrix


class ArgumentKeys(BaseModel):
    """How well the symbols that one argument of a rule takes are told apart by the student's states."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str = Field(description="Name of the rule.")
    argument: int = Field(description="Which of its arguments, from 0.")
    told_apart: float = Field(description="Share named rightly by a ridge probe, each left out of its fit.")
    chance: float = Field(description="Share of the symbol met most often.")
    n: int = Field(description="Applications of the rule that were looked at.")
    worst_pair: tuple[str, str] | None = Field(description="The symbols most often taken for each other.")
    confused: float = Field(description="Share of the worst pair's states that are.")
    recall: dict[str, float] = Field(description="Share named rightly of each symbol that was met.")


@dataclass(frozen=True)
class Cues:
    """The student's states where rules are applied in made-up traces."""

    rule_N: Tensor
    symbol_NA: Tensor  # -1 where a rule has no such argument
    state_NAX: Tensor


@torch.no_grad()
def read_cues(model: Any, rehearsal: Rehearsal, config: CALConfig, n: int = TRACES) -> Cues:
    """One pass over made-up traces; states are taken as the reader's keys are formed.

    The structured reader's keys lie where the arguments are written, the flat reader's where the concept is about to
    be.
    """
    items = [rehearsal.encode(*drawn, config) for drawn in rehearsal.draw(n)]
    device = model.get_input_embeddings().weight.device
    batch = collate(items, device)
    layers = [layer + 1 for layer in config.read_layers]
    seen = states_at(model, layers, input_ids=batch.token_BT, attention_mask=batch.mask_BT)
    state_BTX = torch.cat([seen[layer].float() for layer in layers], -1)
    b, t = (batch.teaching.concept_BT >= 0).nonzero(as_tuple=True)
    source_NA = batch.teaching.source_BTA[b, t]
    at_NA = t[:, None].expand_as(source_NA) if config.reader == "flat" else source_NA.clamp(min=0)
    rule_K, argument_KA = tables(config, source_NA.shape[1])
    concept_N = batch.teaching.concept_BT[b, t].cpu()
    return Cues(
        rule_N=rule_K[concept_N],
        symbol_NA=argument_KA[concept_N],
        state_NAX=state_BTX[b[:, None], at_NA].cpu(),
    )


def tables(config: CALConfig, arity: int) -> tuple[Tensor, Tensor]:
    """Per concept its rule, (K,), and its argument symbols, (K, A), -1 where there is none."""
    rule_K = torch.zeros(config.n_concepts, dtype=torch.long)
    argument_KA = torch.full((config.n_concepts, arity), -1)
    for r, rule in enumerate(config.rules):
        rows = slice(int(rule["offset"]), int(rule["offset"]) + len(rule["rows"]))
        rule_K[rows] = r
        argument_KA[rows, : int(rule["arity"])] = torch.tensor(rule["rows"]).reshape(-1, int(rule["arity"]))
    return rule_K, argument_KA


def keys_apart(found: Cues, config: CALConfig) -> list[ArgumentKeys]:
    """Every argument of every rule that was applied."""
    out = []
    for r, rule in enumerate(config.rules):
        for a in range(int(rule["arity"])):
            here_N = found.rule_N == r
            if here_N.any():
                state_NX, symbol_N = found.state_NAX[here_N, a], found.symbol_NA[here_N, a]
                out.append(_argument(str(rule["name"]), a, state_NX, symbol_N, config.symbols))
    return out


def _argument(rule: str, a: int, state_NX: Tensor, symbol_N: Tensor, names: Sequence[str]) -> ArgumentKeys:
    guess_N = left_out(state_NX, symbol_N)
    count = Counter(symbol_N.tolist())
    mistaken: Counter[tuple[int, int]] = Counter()
    for true, said in zip(symbol_N.tolist(), guess_N.tolist(), strict=True):
        if true != said:
            mistaken[(min(true, said), max(true, said))] += 1
    share = {pair: n / (count[pair[0]] + count[pair[1]]) for pair, n in mistaken.items()}
    worst = max(share, key=lambda pair: (share[pair], pair), default=None)
    return ArgumentKeys(
        rule=rule,
        argument=a,
        told_apart=float((guess_N == symbol_N).float().mean()),
        chance=max(count.values()) / len(symbol_N),
        n=len(symbol_N),
        worst_pair=None if worst is None else (names[worst[0]], names[worst[1]]),
        confused=0.0 if worst is None else share[worst],
        recall={names[s]: float((guess_N == s)[symbol_N == s].float().mean()) for s in count},
    )


def left_out(x_NX: Tensor, y_N: Tensor) -> Tensor:
    """What a ridge probe fitted on the other rows says of each, (N,).

    In closed form: a row's residual without it is its residual divided by 1 - h, the diagonal of the hat matrix.
    """
    classes_C = y_N.unique()
    z_NX = x_NX.double()
    z_NX = (z_NX - z_NX.mean(0)) / z_NX.std(0).clamp(min=1e-6)
    target_NC = (y_N[:, None] == classes_C).double()
    gram_NN = z_NX @ z_NX.T + 1.0  # a constant feature for the bias
    penalty = RIDGE * gram_NN.diagonal().mean()
    hat_NN = torch.linalg.solve(gram_NN + penalty * torch.eye(len(z_NX), dtype=gram_NN.dtype), gram_NN)
    residual_NC = (target_NC - hat_NN @ target_NC) / (1 - hat_NN.diagonal())[:, None]
    said_N: Tensor = classes_C[(target_NC - residual_NC).argmax(-1)]
    return said_N


def singled_out(model: Any, tokens: Sequence[int]) -> Tensor:
    """How far each token's output embedding lies from the convex hull of the others', in typical distances, (C,).

    That distance is the largest margin by which any state of the stream can put the token above all the others. At 0
    the token is never written, whatever the stream says (the softmax bottleneck; Demeter et al., ACL 2020): its row
    lies among the others', or is one of them. Found by Gilbert's algorithm on the Gram matrix; an upper bound. The
    head's bias, if it has any, is left out.
    """
    row_CE = model.get_output_embeddings().weight[torch.tensor(tokens)].detach().double().cpu()
    row_CE = row_CE * final_gain(model).detach().double().cpu()
    n = len(tokens)
    if n < 2:
        return torch.ones(n)
    gram_CC = row_CE @ row_CE.T
    square_C = gram_CC.diagonal()
    apart_CC = (square_C[:, None] + square_C - 2 * gram_CC).clamp(min=0).sqrt()
    typical = float(apart_CC[~torch.eye(n, dtype=torch.bool)].median())
    # weight_CC[i]: the point of the hull of all but i that is nearest to i so far
    weight_CC = torch.zeros(n, n, dtype=gram_CC.dtype)
    weight_CC[torch.arange(n), apart_CC.fill_diagonal_(torch.inf).argmin(-1)] = 1.0
    for _ in range(HULL_STEPS):
        to_CC = (weight_CC - torch.eye(n, dtype=gram_CC.dtype)) @ gram_CC  # (p_i - r_i) . r_j
        ahead_C = to_CC.clone().fill_diagonal_(torch.inf).argmin(-1)
        step_CC = torch.nn.functional.one_hot(ahead_C, n).double() - weight_CC
        length_C = ((step_CC @ gram_CC) * step_CC).sum(-1)
        gain_C = -(to_CC * step_CC).sum(-1) / length_C.clamp(min=1e-12)
        weight_CC += gain_C.clamp(0, 1)[:, None] * step_CC
    from_CC = weight_CC - torch.eye(n, dtype=gram_CC.dtype)
    distance_C: Tensor = ((from_CC @ gram_CC) * from_CC).sum(-1).clamp(min=0).sqrt() / max(typical, 1e-12)
    return distance_C
