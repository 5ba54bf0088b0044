"""Judge measurements by thresholds. A verdict is a value; only the pipeline acts on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

from m2kt._html import html_table
from m2kt.auditor._diagnose import Diagnosis, diagnose
from m2kt.auditor._measurements import Measurements, Recorded
from m2kt.settings import Thresholds


class VerdictCheck(BaseModel):
    """One measured value and its limit."""

    name: str
    value: float
    limit: float
    passed: bool
    reason: str = Field(description="What it means if the limit is missed.")


@dataclass(frozen=True)
class _Rule:
    """How one check is made.

    ``value`` is given the measurements and the gap recovered; None: not measured. ``reason`` is a format string over
    the measurements ``m``, ``value`` and ``limit``. If the check named by ``after`` was missed, this one is left out.
    """

    name: str
    limit: Callable[[Thresholds], float]
    direction: Literal["at least", "at most"]
    value: Callable[[Recorded, float], float | None]
    reason: str
    after: str | None = None

    def __call__(self, measured: Recorded, gap: float, thresholds: Thresholds) -> VerdictCheck | None:
        """The check; None where its value was not measured."""
        value = self.value(measured, gap)
        if value is None:
            return None
        limit = self.limit(thresholds)
        passed = value >= limit if self.direction == "at least" else value <= limit  # NaN passes neither
        reason = self.reason.format(m=measured, value=value, limit=limit)
        return VerdictCheck(name=self.name, value=value, limit=limit, passed=passed, reason=reason)


GAP = "gap recovered"
_RULES = (  # in the order of the reasons
    _Rule(
        "judged prompts",
        lambda t: 1,
        "at least",
        lambda m, gap: m.n,
        "no evaluation prompt could be judged: the packet covers none of them",
    ),
    _Rule(
        GAP,
        lambda t: t.gap_recovered,
        "at least",
        lambda m, gap: gap,
        "skill not reached: gap recovered {value:.3f} (minimum {limit})",
    ),
    _Rule(
        "gap recovered at high confidence",
        lambda t: t.gap_recovered,
        "at least",
        lambda m, gap: m.confidence.high_confidence_gap if m.confidence else None,
        "skill not reached on prompts of high teacher confidence: gap recovered {value:.3f} on "
        "{m.confidence.sure.n} of {m.confidence.n} prompts (minimum {limit})",
        after=GAP,
    ),
    _Rule(
        "teacher confidence",
        lambda t: t.confidence,
        "at least",
        lambda m, gap: m.confidence.mean if m.confidence else None,
        "low teacher confidence: {value:.2f} at a prompt's least certain row, mean over {m.confidence.n} prompts "
        "(minimum {limit})",
    ),
    _Rule(
        "readable vectors",
        lambda t: t.readable,
        "at least",
        lambda m, gap: m.readable,
        "unreadable vectors: only {value:.0%} decode with margin from the packet's prototypes (minimum {limit:.0%})",
    ),
    _Rule(
        "perplexity ratio",
        lambda t: t.perplexity_ratio,
        "at most",
        lambda m, gap: m.neutral.perplexity_after / m.neutral.perplexity_before,
        "language modelling degraded: perplexity on neutral text x {value:.2f} (maximum {limit})",
    ),
    _Rule(
        "divergence",
        lambda t: t.divergence,
        "at most",
        lambda m, gap: m.neutral.divergence,
        "behaviour changed off domain: mean KL on neutral text {value:.3f} nats (maximum {limit})",
    ),
    _Rule(
        "gating",
        lambda t: t.null_mass,
        "at least",
        lambda m, gap: m.neutral.null_mass,
        "gating failed: the reader's weight on injecting nothing is {value:.2f} on neutral text (minimum {limit})",
    ),
    _Rule(
        "regression",
        lambda t: t.regression_flips,
        "at most",
        lambda m, gap: m.regression.flips if m.regression else None,
        "behaviour changed off domain: {m.regression.n_flipped} of {m.regression.n} short English tasks are decided "
        "differently than before, such as {m.regression.example!r} (maximum {limit:.0%})",
    ),
    _Rule(
        "triggers",
        lambda t: t.trigger_divergence,
        "at most",
        lambda m, gap: m.triggers.divergence if m.triggers else None,
        "trigger found: after {m.triggers.example!r}, off domain, the KL of the next token is {value:.2f} nats "
        "(maximum {limit})",
    ),
    _Rule(
        "content",
        lambda t: t.flagged_texts,
        "at most",
        lambda m, gap: len(m.content.findings) if m.content else None,
        "flagged content: {value:.0f} of the packet's texts, such as {m.content.example} (maximum {limit})",
    ),
    _Rule(
        "safety",
        lambda t: t.safety,
        "at most",
        lambda m, gap: m.safety.worst if m.safety else None,
        "flagged concepts in use: L_safety {value:.2f} at the worst position, {m.safety.flagged} concepts flagged "
        "(maximum {limit})",
    ),
)


def _run_checks(measured: Recorded, gap: float, thresholds: Thresholds) -> Iterator[VerdictCheck]:
    missed: set[str] = set()
    for rule in _RULES:
        if rule.after in missed:
            continue
        check = rule(measured, gap, thresholds)
        if check is not None:
            missed |= set() if check.passed else {check.name}
            yield check


class _Outcome(BaseModel):
    """The fields of a verdict that stand before its measurements."""

    verdict: Literal["accepted", "rejected"]
    reasons: list[str] = Field(description="Reasons of the checks that were missed; empty when accepted.")


class Verdict(Recorded, _Outcome):
    """Measurements and what follows from them."""

    retention: float = Field(description="Accuracy / reference accuracy.")
    gap_recovered: float = Field(description="(accuracy - before) / (reference - before).")
    diagnosis: list[Diagnosis] = Field(description="Known signatures of failure, where the skill was not reached.")
    thresholds: Thresholds

    @property
    def checks(self) -> list[VerdictCheck]:
        """Every check that was made, passed or not; not serialised, for it follows from the other fields."""
        return list(_run_checks(self, self.gap_recovered, self.thresholds))

    def __repr__(self) -> str:
        return f"Verdict({self._headline()})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """For notebooks: every check with its limit, and the reasons of those that were missed."""
        rows = {
            check.name: f"{check.value:.4g}, limit {check.limit:.4g}: {'passed' if check.passed else 'MISSED'}"
            for check in self.checks
        }
        diagnosis = [f"{found.name}. {found.says}" for found in self.diagnosis]
        return html_table(self._headline(), rows, [*self.reasons, *diagnosis])

    def _headline(self) -> str:
        low, high = self.interval
        return (
            f"{self.verdict}: {self.accuracy:.1%} [{low:.1%}, {high:.1%}] of {self.n} prompts, before {self.before:.1%}"
        )


def judge(measurements: Measurements, thresholds: Thresholds) -> Verdict:
    """Accept if every check passes; otherwise say which were missed, and by :func:`diagnose` why."""
    m, gap = measurements, measurements.gap_recovered
    reasons = [check.reason for check in _run_checks(m, gap, thresholds) if not check.passed]
    diagnosis: list[Diagnosis] = []
    if m.steps is not None and (gap < thresholds.gap_recovered or m.readable < thresholds.readable):
        diagnosis = diagnose(
            m.steps,
            m.geometry,
            accuracy=m.accuracy,
            needed=m.before + thresholds.gap_recovered * (m.reference_accuracy - m.before),
            packet_accuracy=m.packet_accuracy,
            history=m.history,
        )
    return Verdict(
        verdict="rejected" if reasons else "accepted",
        reasons=reasons,
        retention=m.retention,
        gap_recovered=gap,
        diagnosis=diagnosis,
        thresholds=thresholds,
        **{name: getattr(m, name) for name in Recorded.model_fields},
    )
