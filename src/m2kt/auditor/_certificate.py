"""The certificate: a bound on whole problems from the errors of single steps (DESIGN section 6).

A problem is answered wrongly only if a step of its trace goes wrong while everything before it is right. So P(right) >=
1 - sum eps_k over the concepts of its trace, minus one term for the rest of the trace (literals and copies together).
Averaged over problems, with m rule steps a problem in the mean,

    P(right) >= 1 - m * eps - eps_structure,        eps: how often a rule step of a problem goes wrong.

Errors are counted teacher-forced on the packet's rollouts, on prompts of the probing split, which the student has not
rehearsed. One rule step of each trace is drawn at random, so that the draws are independent; shapes are drawn in the
proportions of the problems. Limits are Clopper-Pearson's, each at half of 1 - confidence. Rows differ in their error
rate; a binomial limit on their mean stays valid (Hoeffding 1956, theorem 4).

The second bound uses divergences alone: a greedy student errs at a step only if the right continuation has less than
half of its probability, so at most as often as min(KL, log 2) / log 2 in the mean, where KL = -log p(right) is the
divergence of the student's step from the packet's. Its limit is the empirical Bernstein bound of Maurer and Pontil
(2009, theorem 4). This checks the paper's open question whether small divergence at the concepts guarantees the skill:
up to this factor, it does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from m2kt._shapes import Bool, Float, Int
from m2kt.auditor._skill import packet_traces
from m2kt.auditor._traces import spans, structure_positions, teacher_forced
from m2kt.models import LoadedModel, next_token_logits
from m2kt.packet import Packet, Trace
from m2kt.probes import Prompt
from m2kt.student import IGNORE, EncodedTrace


class ConceptError(BaseModel):
    """Errors of one concept's steps."""

    model_config = ConfigDict(extra="forbid")

    n: int = Field(description="Steps.")
    errors: int = Field(description="Steps that are wrong.")
    upper: float = Field(description="Clopper-Pearson upper limit of errors / n, at the certificate's confidence.")
    divergence: float = Field(description="Mean -log p(right), nats.")


class Certificate(BaseModel):
    """A bound on problems from errors on concepts. Right means: equal to the packet's rollout."""

    model_config = ConfigDict(extra="forbid")

    confidence: float = Field(description="Confidence of each bound.")
    traces: int = Field(description="Traces from which steps were drawn.")
    rule_steps: float = Field(description="m, mean number of rule steps of a problem.")
    error: float = Field(description="Upper limit of eps, the error rate of a rule step.")
    structure_error: float = Field(description="Upper limit of the error rate of the rest of a trace.")
    bound: float = Field(description="Lower bound of P(right).")
    divergence: float = Field(description="Upper limit of min(KL, log 2) / log 2 of a rule step.")
    structure_divergence: float = Field(description="Upper limit of the same for the rest of a trace.")
    divergence_bound: float = Field(description="Lower bound of P(right) from divergences alone.")
    concepts: dict[int, ConceptError] = Field(description="By concept, over all steps of all traces.")


@dataclass(frozen=True)
class _Errors:
    """Errors and divergences of one trace."""

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
    """Bound how often the student answers problems like ``problems`` as the packet does.

    Args:
        problems: give the proportions of shapes; the student does not answer them.
        traces: maximum of traces to read; without any error the bound is about 1 - 3 m / traces.

    Returns None if no rollout of a problem is complete.
    """
    complete = [trace for trace in packet_traces(packet, problems) if trace.complete]
    if not complete:
        return None
    share, steps = _shapes(complete)
    measured = _measure_errors(loaded, packet, packet.spec.sample("probing", traces, seed=seed))
    by_shape = {t: [errors for errors in measured if errors.template == t] for t in share}
    if any(not by_shape[t] for t in share):
        return None
    rng = np.random.default_rng(seed)
    m = sum(share[t] * steps[t] for t in share)
    ruled = _mix(
        {t: _by_length(of_shape, rng) for t, of_shape in by_shape.items()},
        {t: share[t] * steps[t] for t in share},
        rng,
    )
    drawn = [int(rng.integers(len(errors.wrong))) for errors in ruled]
    mixed = _mix(by_shape, share, rng)
    half = (1 - confidence) / 2
    error = clopper_pearson(sum(x.wrong[i] for x, i in zip(ruled, drawn, strict=True)), len(ruled), half)
    structure = clopper_pearson(sum(x.structure_wrong for x in mixed), len(mixed), half)
    divergence = bernstein([_bits(x.nats[i]) for x, i in zip(ruled, drawn, strict=True)], half)
    structure_divergence = bernstein([_bits(x.structure_nats) for x in mixed], half)
    return Certificate(
        confidence=confidence,
        traces=len(measured),
        rule_steps=m,
        error=error if m else 0.0,
        structure_error=structure,
        bound=max(0.0, 1 - (m * error if m else 0.0) - structure),
        divergence=divergence if m else 0.0,
        structure_divergence=structure_divergence,
        divergence_bound=max(0.0, 1 - (m * divergence if m else 0.0) - structure_divergence),
        concepts=_by_concept(measured, 1 - confidence),
    )


def _shapes(traces: Sequence[Trace]) -> tuple[dict[int, float], dict[int, float]]:
    """Each template's share of the traces, and its mean number of rule steps."""
    count = Counter(trace.template for trace in traces)
    steps = {
        t: float(np.mean([sum(u.kind == "rule" for u in r.units) for r in traces if r.template == t])) for t in count
    }
    return {t: n / count.total() for t, n in count.items()}, steps


def clopper_pearson(errors: int, n: int, alpha: float) -> float:
    """One-sided upper limit of a share: the largest p at which at most ``errors`` of n have probability ``alpha``."""
    if n == 0 or errors >= n:
        return 1.0
    low, high = errors / n, 1.0
    for _ in range(60):
        p = (low + high) / 2
        low, high = (p, high) if _at_most(errors, n, p) > alpha else (low, p)
    return high


def _at_most(errors: int, n: int, p: float) -> float:
    """P(X <= errors) of a binomial."""
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
        for k in range(errors + 1)
    ]
    return math.fsum(map(math.exp, logs))


def bernstein(values: Sequence[float], alpha: float) -> float:
    """Upper limit of the mean of independent values in [0, 1] (empirical Bernstein)."""
    n = len(values)
    if n < 2:
        return 1.0
    x = math.log(2 / alpha)
    limit = float(np.mean(values)) + math.sqrt(2 * float(np.var(values, ddof=1)) * x / n) + 7 * x / (3 * (n - 1))
    return min(1.0, limit)


def _bits(nats: float) -> float:
    """A divergence in bits, at most 1."""
    return min(nats, math.log(2)) / math.log(2)


def _by_length(traces: list[_Errors], rng: np.random.Generator) -> list[_Errors]:
    """Keep each trace with a probability in proportion to its steps: then any step is as likely."""
    longest = max((len(x.wrong) for x in traces), default=0)
    return [x for x in traces if rng.random() * longest < len(x.wrong)]


def _mix(by_shape: dict[int, list[_Errors]], weight: dict[int, float], rng: np.random.Generator) -> list[_Errors]:
    """As many traces as possible with shapes in the proportions of ``weight``."""
    positive = {t: w for t, w in weight.items() if w > 0}
    if not positive:
        return []
    scale = min(len(by_shape[t]) / w for t, w in positive.items())
    drawn: list[_Errors] = []
    for t, w in positive.items():
        n = max(1, round(scale * w))
        drawn += [by_shape[t][i] for i in rng.permutation(len(by_shape[t]))[:n]]
    return drawn


@torch.no_grad()
def _measure_errors(loaded: LoadedModel, packet: Packet, prompts: Sequence[Prompt]) -> list[_Errors]:
    """Errors of every complete rollout, teacher-forced, with the adapter on (if there is one)."""
    measured: list[_Errors] = []
    for group, batch in teacher_forced(loaded, packet, packet_traces(packet, prompts)):
        answered_BT = batch.label_BT != IGNORE
        logits_NV = next_token_logits(loaded.model, batch.token_BT, batch.mask_BT, answered_BT).float()
        label_N = batch.label_BT[answered_BT]
        right_BT = torch.zeros_like(answered_BT)
        nats_BT = torch.zeros(answered_BT.shape, device=logits_NV.device)
        right_BT[answered_BT], nats_BT[answered_BT] = _token_errors(logits_NV, label_N)
        rows = zip(group, right_BT.tolist(), nats_BT.tolist(), strict=True)
        measured += [_errors(item, right_T, nats_T) for item, right_T, nats_T in rows]
    return measured


def _token_errors(
    logits_NV: Float[Tensor, "N V"], label_N: Int[Tensor, " N"]
) -> tuple[Bool[Tensor, " N"], Float[Tensor, " N"]]:
    """Whether each token has the largest logit, and its -log p."""
    return logits_NV.argmax(-1) == label_N, functional.cross_entropy(logits_NV, label_N, reduction="none")


def _errors(item: EncodedTrace, right_T: list[bool], nats_T: list[float]) -> _Errors:
    steps, structure = spans(item), structure_positions(item)
    return _Errors(
        template=item.trace.template,
        concepts=[item.concept_T[t] for t in steps],
        wrong=[not all(right_T[t:end]) for t, end in steps.items()],
        nats=[sum(nats_T[t:end]) for t, end in steps.items()],
        structure_wrong=not all(right_T[i] for i in structure),
        structure_nats=sum(nats_T[i] for i in structure),
    )


def _by_concept(measured: Sequence[_Errors], alpha: float) -> dict[int, ConceptError]:
    steps: dict[int, list[tuple[bool, float]]] = {}
    for trace in measured:
        for k, wrong, nats in zip(trace.concepts, trace.wrong, trace.nats, strict=True):
            steps.setdefault(k, []).append((wrong, nats))
    return {k: _concept_error(of_concept, alpha) for k, of_concept in sorted(steps.items())}


def _concept_error(steps: list[tuple[bool, float]], alpha: float) -> ConceptError:
    errors = sum(wrong for wrong, _ in steps)
    return ConceptError(
        n=len(steps),
        errors=errors,
        upper=clopper_pearson(errors, len(steps), alpha),
        divergence=float(np.mean([nats for _, nats in steps])),
    )
