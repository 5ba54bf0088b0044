"""Can the frozen student tell a skill's symbols apart: in its states, where a reader's keys are read, and in its head?

Letters: N applications of a rule, A arguments, X widths of all blocks read, S symbols, C symbols met, U units, E width.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from m2kt.models import decoder, record
from m2kt.student.cal import CALConfig
from m2kt.student.calibrate import final_gain
from m2kt.student.rehearsal import Rehearsal, collate
from m2kt.student.spelling import Spelling, Tokens

TRACES = 64
RIDGE = 1e-2  # penalty relative to the mean squared length of a state
APART = 0.05  # distance of two tokens' output embeddings, in typical ones, below which a head takes them for one


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


@dataclass(frozen=True)
class Cues:
    """The student's states where rules are applied in made-up traces."""

    rule_N: Tensor
    symbol_NA: Tensor  # -1 where a rule has no such argument
    state_NAX: Tensor
    tokens: int
    """Tokens that ran through the student's blocks, padding included, and the seconds that it took."""
    seconds: float


@torch.no_grad()
def cues(model: Any, rehearsal: Rehearsal, config: CALConfig, n: int = TRACES) -> Cues:
    """One pass over made-up traces; states are taken as the reader's keys are formed.

    The structured reader's keys lie where the arguments are written, the flat reader's where the concept is about to
    be.
    """
    items = [rehearsal.encode(*drawn, config) for drawn in rehearsal.draw(n)]
    device = model.get_input_embeddings().weight.device
    batch = collate(items, torch.zeros(n, dtype=torch.bool), (1.0, 1.0), device)
    began = time.perf_counter()
    with record(model, [layer + 1 for layer in config.read_layers]) as seen:
        decoder(model)(input_ids=batch.token_BT, attention_mask=batch.mask_BT, use_cache=False)
    seconds = time.perf_counter() - began
    state_BTX = torch.cat([seen[layer + 1].float() for layer in config.read_layers], -1)
    b, t = (batch.teaching.concept_BT >= 0).nonzero(as_tuple=True)
    source_NA = batch.teaching.source_BTA[b, t]
    at_NA = t[:, None].expand_as(source_NA) if config.reader == "flat" else source_NA.clamp(min=0)
    rule_K, argument_KA = tables(config, source_NA.shape[1])
    concept_N = batch.teaching.concept_BT[b, t].cpu()
    return Cues(
        rule_N=rule_K[concept_N],
        symbol_NA=argument_KA[concept_N],
        state_NAX=state_BTX[b[:, None], at_NA].cpu(),
        tokens=batch.token_BT.numel(),
        seconds=seconds,
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
    return classes_C[(target_NC - residual_NC).argmax(-1)]


def written_apart(model: Any, spelling: Spelling, names: Sequence[str]) -> dict[tuple[str, str], float]:
    """How far apart the head holds each two units that answers write, in typical distances, by the units' texts.

    Two units are compared where their spellings part. Equal output embeddings give equal logits whatever the stream
    says: of two such units the student can only ever write one.
    """
    forms: list[tuple[str, Tokens]] = [
        (name, counter.most_common(1)[0][0]) for name, counter in zip(names, spelling.written, strict=True)
    ]
    forms += [(text, tokens) for text, tokens in spelling.literals.items() if text not in names]
    parting = {}
    for (a, x), (b, y) in combinations(forms, 2):
        if pair := _parting(x, y):
            parting[(a, b) if pair[0] < pair[1] else (b, a)] = pair
    rows_VE = model.get_output_embeddings().weight
    seen: dict[int, Tensor] = {
        token: rows_VE[token].detach().float().cpu() * final_gain(model).cpu()
        for pair in parting.values()
        for token in pair
    }
    distance = {units: float((seen[i] - seen[j]).norm()) for units, (i, j) in parting.items()}
    typical = sorted(distance.values())[len(distance) // 2] if distance else 1.0
    return {units: d / max(typical, 1e-12) for units, d in distance.items()}


def _parting(x: Tokens, y: Tokens) -> tuple[int, int] | None:
    """The first two tokens in which spellings differ; None where one begins the other."""
    return next(((i, j) for i, j in zip(x, y, strict=False) if i != j), None)


def losers(apart: dict[tuple[str, str], float]) -> set[str]:
    """Of every two units that the head takes for one the second: the first token of equal logits is written."""
    return {b for (_, b), distance in apart.items() if distance < APART}
