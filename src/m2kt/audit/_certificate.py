"""The certificate: from how often single steps go wrong to a bound on whole problems (DESIGN section 6).

A problem is answered wrongly only if some step of its trace goes wrong while everything before it was right. So
P(right) >= 1 - sum eps_k over the concepts that its trace uses, and one more term for what is not a rule (the literals
and copies of a trace, taken together). Averaged over problems, with m rule steps a problem in the mean,

    P(right) >= 1 - m * eps - eps_structure,        eps: how often a rule step of a problem goes wrong.

Errors are counted with the packet's own prefix given, on prompts of the probing split: the student has never rehearsed
them. From each trace one rule step is drawn at random, so that the draws are independent; shapes are drawn as they
occur among the problems that the bound is about. Limits are Clopper-Pearson's, each at half of what the confidence
leaves over. Rows err unequally often, for which a binomial limit on their mean stays valid (Hoeffding 1956, theorem 4).

The second bound knows no errors, only divergences: a greedy student errs at a step only if the right continuation has
less than half of its probability, so errs at most as often as min(KL, log 2) / log 2 says in the mean, where
KL = -log p(right) is the divergence of the packet's certain step from the student's. Its limit is the empirical
Bernstein bound of Maurer and Pontil (2009, theorem 4). This is the checked form of the paper's open question, whether
small divergence at the concepts guarantees the skill: up to this factor, it does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import betaincinv
from torch.nn import functional

from m2kt.audit._skill import packet_traces
from m2kt.audit._steps import TRACES_A_BATCH, cal_reader, spans
from m2kt.models import LoadedModel, next_tokens
from m2kt.packet import Packet
from m2kt.probes import Prompt
from m2kt.student import IGNORE, NO_BANK, CALConfig, EncodedTrace, Encoder, collate


class ConceptError(BaseModel):
    """How often one concept's step went wrong."""

    model_config = ConfigDict(extra="forbid")

    n: int = Field(description="Steps taken.")
    errors: int = Field(description="How many of them went wrong.")
    upper: float = Field(
        description="Clopper-Pearson upper limit of the share, at the certificate's confidence."
    )
    divergence: float = Field(description="Mean -log p(right), nats.")


class Certificate(BaseModel):
    """A bound on problems from errors on concepts. Right means: as the packet's own roll-out."""

    model_config = ConfigDict(extra="forbid")

    confidence: float = Field(description="Of each bound.")
    traces: int = Field(description="Traces from which steps were drawn.")
    rule_steps: float = Field(description="m, rule steps a problem, in the mean.")
    error: float = Field(description="Upper limit of eps, a rule step's chance to go wrong.")
    structure_error: float = Field(description="Upper limit for everything in a trace that is not a rule.")
    bound: float = Field(description="P(right) is at least this.")
    divergence: float = Field(description="Upper limit of min(KL, log 2) / log 2 of a rule step.")
    structure_divergence: float = Field(description="The same for the rest of a trace.")
    divergence_bound: float = Field(description="P(right) is at least this, from divergences alone.")
    concepts: dict[int, ConceptError] = Field(description="By concept met; all steps of all traces.")


@dataclass(frozen=True)
class _Taken:
    """What became of a trace's steps."""

    template: int
    concepts: list[int]
    wrong: list[bool]
    nats: list[float]
    structure_wrong: bool
    structure_nats: float


def certify(
    loaded: LoadedModel,
    packet: Packet,
    problems: Sequence[Prompt],
    *,
    traces: int = 600,
    confidence: float = 0.95,
    seed: int = 0,
) -> Certificate | None:
    """Bounds how often the student answers problems like ``problems`` as the packet does.

    Args:
        problems: those the bound is about; they say which shapes occur how often, and are not asked.
        traces: how many traces to read at most; the bound is about 3 m / traces below the truth at best.

    Returns None where the packet rolls out none of the problems' shapes to the end.
    """
    rolled = packet_traces(packet, problems)
    if not any(t.complete for t in rolled):
        return None
    of_shape = Counter(t.template for t in rolled if t.complete)
    drawn = packet.spec.sample("probing", traces, seed=seed)
    taken = _take(loaded, packet, drawn)
    rng = np.random.default_rng(seed)
    shares = {t: n / of_shape.total() for t, n in of_shape.items()}
    steps = {
        t: float(
            np.mean(
                [sum(u.kind == "rule" for u in r.units) for r in rolled if r.complete and r.template == t]
            )
        )
        for t in shares
    }
    m = sum(shares[t] * steps[t] for t in shares)
    by_shape = {t: [x for x in taken if x.template == t] for t in shares}
    if any(not by_shape[t] for t in shares):
        return None
    ruled = _mix(
        {t: _by_length(of, rng) for t, of in by_shape.items()}, {t: shares[t] * steps[t] for t in shares}, rng
    )
    picks = [int(rng.integers(len(x.wrong))) for x in ruled]
    plain = _mix(by_shape, shares, rng)
    half = (1 - confidence) / 2
    error = clopper_pearson(sum(x.wrong[i] for x, i in zip(ruled, picks, strict=True)), len(ruled), half)
    structure = clopper_pearson(sum(x.structure_wrong for x in plain), len(plain), half)
    divergence = bernstein([_share(x.nats[i]) for x, i in zip(ruled, picks, strict=True)], half)
    structure_divergence = bernstein([_share(x.structure_nats) for x in plain], half)
    return Certificate(
        confidence=confidence,
        traces=len(taken),
        rule_steps=m,
        error=error if m else 0.0,
        structure_error=structure,
        bound=max(0.0, 1 - (m * error if m else 0.0) - structure),
        divergence=divergence if m else 0.0,
        structure_divergence=structure_divergence,
        divergence_bound=max(0.0, 1 - (m * divergence if m else 0.0) - structure_divergence),
        concepts=_by_concept(taken, 1 - confidence),
    )


def clopper_pearson(errors: int, n: int, alpha: float) -> float:
    """One-sided upper limit of a share: the largest p at which at most ``errors`` of n have probability ``alpha``."""
    return 1.0 if errors >= n else float(betaincinv(errors + 1, n - errors, 1 - alpha))


def bernstein(values: Sequence[float], alpha: float) -> float:
    """Upper limit of the mean of independent values in [0, 1] (empirical Bernstein)."""
    n = len(values)
    if n < 2:
        return 1.0
    x = math.log(2 / alpha)
    limit = (
        float(np.mean(values)) + math.sqrt(2 * float(np.var(values, ddof=1)) * x / n) + 7 * x / (3 * (n - 1))
    )
    return min(1.0, limit)


def _share(nats: float) -> float:
    return min(nats, math.log(2)) / math.log(2)


def _by_length(traces: list[_Taken], rng: np.random.Generator) -> list[_Taken]:
    """Traces thinned so that each is left with a chance in proportion to its steps: then any step is as likely."""
    longest = max((len(x.wrong) for x in traces), default=0)
    return [x for x in traces if rng.random() * longest < len(x.wrong)]


def _mix(
    by_shape: dict[int, list[_Taken]], weight: dict[int, float], rng: np.random.Generator
) -> list[_Taken]:
    """As many traces as there are, drawn so that shapes come in the proportions of ``weight``."""
    wanted = {t: w for t, w in weight.items() if w > 0}
    if not wanted:
        return []
    scale = min(len(by_shape[t]) / w for t, w in wanted.items())
    found = []
    for t, w in wanted.items():
        n = max(1, round(scale * w))
        found += [by_shape[t][i] for i in rng.permutation(len(by_shape[t]))[:n]]
    return found


@torch.no_grad()
def _take(loaded: LoadedModel, packet: Packet, prompts: Sequence[Prompt]) -> list[_Taken]:
    """Every step of the packet's traces, the packet's prefix given, with the adapter on (if there is one)."""
    reader = cal_reader(loaded.model)
    config = reader.config if reader is not None else CALConfig()
    encode = Encoder(packet.graph, loaded.tokenizer)
    items = [encode(t, NO_BANK, config) for t in packet_traces(packet, prompts) if t.complete]
    items.sort(key=lambda item: len(item.ids))
    found: list[_Taken] = []
    for start in range(0, len(items), TRACES_A_BATCH):
        group = items[start : start + TRACES_A_BATCH]
        batch = collate(group, loaded.device)
        answered_BT = batch.label_BT != IGNORE
        logits_NV = next_tokens(loaded.model, batch.token_BT, batch.mask_BT, answered_BT).float()
        label_N = batch.label_BT[answered_BT]
        right_BT = torch.zeros_like(answered_BT)
        right_BT[answered_BT] = logits_NV.argmax(-1) == label_N
        nats_BT = torch.zeros(answered_BT.shape, device=logits_NV.device)
        nats_BT[answered_BT] = functional.cross_entropy(logits_NV, label_N, reduction="none")
        rows = zip(group, right_BT.tolist(), nats_BT.tolist(), strict=True)
        found += [_taken(item, right_T, nats_T) for item, right_T, nats_T in rows]
    return found


def _taken(item: EncodedTrace, right_T: list[bool], nats_T: list[float]) -> _Taken:
    of_rules = spans(item)
    within = {i for t, end in of_rules.items() for i in range(t, end)}
    others = [i for i, label in enumerate(item.label_T) if label != IGNORE and i not in within]
    return _Taken(
        template=item.trace.template,
        concepts=[item.concept_T[t] for t in of_rules],
        wrong=[not all(right_T[t:end]) for t, end in of_rules.items()],
        nats=[sum(nats_T[t:end]) for t, end in of_rules.items()],
        structure_wrong=not all(right_T[i] for i in others),
        structure_nats=sum(nats_T[i] for i in others),
    )


def _by_concept(taken: Sequence[_Taken], alpha: float) -> dict[int, ConceptError]:
    steps: dict[int, list[tuple[bool, float]]] = {}
    for trace in taken:
        for k, wrong, nats in zip(trace.concepts, trace.wrong, trace.nats, strict=True):
            steps.setdefault(k, []).append((wrong, nats))
    return {
        k: ConceptError(
            n=len(all_),
            errors=sum(w for w, _ in all_),
            upper=clopper_pearson(sum(w for w, _ in all_), len(all_), alpha),
            divergence=float(np.mean([x for _, x in all_])),
        )
        for k, all_ in sorted(steps.items())
    }
