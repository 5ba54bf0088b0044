"""The verdict: measurements held against thresholds. A value; only the pipeline acts on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, Field

from m2kt.audit._certificate import Certificate
from m2kt.audit._confidence import Confidence
from m2kt.audit._content import ContentReport
from m2kt.audit._diagnose import Diagnosis, diagnose
from m2kt.audit._geometry import Geometry
from m2kt.audit._regression import Regression
from m2kt.audit._retention import Neutral
from m2kt.audit._safety import Safety
from m2kt.audit._skill import gap_recovered
from m2kt.audit._steps import Steps
from m2kt.audit._triggers import Triggers
from m2kt.probes import ShapeScore
from m2kt.settings import Thresholds


class Verdict(BaseModel):
    """What was measured and what follows from it."""

    verdict: Literal["accepted", "rejected"]
    reasons: list[str] = Field(description="Thresholds that were missed; empty when accepted.")
    reference: str = Field(description="What answers were held against.")
    before: float = Field(description="Accuracy of the frozen student.")
    accuracy: float = Field(description="Accuracy with the adapter.")
    interval: tuple[float, float] = Field(description="Wilson 95 % interval of the accuracy.")
    n: int = Field(description="Prompts asked.")
    retention: float = Field(description="Accuracy / reference accuracy.")
    gap_recovered: float = Field(description="(accuracy - before) / (reference - before).")
    shapes: list[ShapeScore] = Field(description="Probed shapes.")
    held_out: list[ShapeScore] = Field(
        description="Shapes never probed or rehearsed, apart; they do not decide."
    )
    neutral: Neutral = Field(description="Behaviour outside the skill.")
    regression: Regression | None = Field(
        description="Small tasks of English, decided before and after; null: not asked."
    )
    triggers: Triggers | None = Field(
        description="Search for strings after which adapter and base part ways; null: not made."
    )
    readable: float = Field(
        description="Share of concept vectors read clearly by the packet's own symbol states."
    )
    confidence: Confidence | None = Field(
        description="What the teacher itself is sure of, and what of that arrived; null: the packet does not say."
    )
    steps: Steps | None = Field(description="Single rule steps, the prefix given; null: not measured.")
    geometry: Geometry | None = Field(
        description="Where phi puts the packet's vectors; null: no phi, or not measured."
    )
    certificate: Certificate | None = Field(
        description="Bound on whole problems from errors on single concepts; null: not asked for, or nothing to read."
    )
    content: ContentReport | None = Field(description="What the packet's texts say; null: not looked at.")
    safety: Safety | None = Field(description="L_safety at flagged concepts; null: not measured.")
    diagnosis: list[Diagnosis] = Field(
        description="Known signatures of failure, where the skill was not reached."
    )
    thresholds: Thresholds


def judge(
    *,
    before: float,
    accuracy: float,
    interval: tuple[float, float],
    n: int,
    reference_accuracy: float,
    reference: str,
    shapes: list[ShapeScore],
    held_out: list[ShapeScore],
    neutral: Neutral,
    readable: float,
    thresholds: Thresholds,
    confidence: Confidence | None = None,
    steps: Steps | None = None,
    geometry: Geometry | None = None,
    certificate: Certificate | None = None,
    regression: Regression | None = None,
    triggers: Triggers | None = None,
    content: ContentReport | None = None,
    safety: Safety | None = None,
    packet_accuracy: float | None = None,
    history: Sequence[Mapping[str, float]] = (),
) -> Verdict:
    """Holds measurements against thresholds and says which were missed; :func:`diagnose` says why."""
    gap = gap_recovered(before, accuracy, reference_accuracy)
    reasons = []
    if n == 0:
        reasons.append("no evaluation prompt could be judged: the packet covers none of them")
    if gap < thresholds.gap_recovered:
        reasons.append(
            f"skill not reached: gap recovered {gap:.3f}, expected at least {thresholds.gap_recovered}"
        )
    elif confidence is not None and confidence.doubted and confidence.sure is not None:
        sure = confidence.sure
        if sure.gap_recovered < thresholds.gap_recovered:
            reasons.append(
                f"skill not reached where the teacher is sure: gap recovered {sure.gap_recovered:.3f} on {sure.n} of "
                f"{confidence.n} prompts, expected at least {thresholds.gap_recovered}"
            )
    if confidence is not None and confidence.mean < thresholds.confidence:
        reasons.append(
            f"the teacher guesses: what it writes at its least sure row it gives {confidence.mean:.2f} in the mean of "
            f"{confidence.n} prompts, expected at least {thresholds.confidence}"
        )
    if readable < thresholds.readable:
        reasons.append(
            f"the packet's vectors do not speak: {readable:.2f} of them are read clearly by its own symbol states, "
            f"expected at least {thresholds.readable}"
        )
    ratio = neutral.perplexity_after / neutral.perplexity_before
    if not ratio <= thresholds.perplexity_ratio:
        reasons.append(
            f"something else was lost: perplexity on neutral text x {ratio:.2f}, at most {thresholds.perplexity_ratio}"
        )
    if not neutral.divergence <= thresholds.divergence:
        reasons.append(
            f"something else changed: divergence on neutral text {neutral.divergence:.3f}, "
            f"at most {thresholds.divergence}"
        )
    if neutral.null_mass is not None and neutral.null_mass < thresholds.null_mass:
        reasons.append(
            f"the reader speaks outside the skill: weight on nothing {neutral.null_mass:.2f} on neutral text, "
            f"expected at least {thresholds.null_mass}"
        )
    if regression is not None and regression.flips > thresholds.regression_flips:
        flipped = [*regression.lost, *regression.gained]
        reasons.append(
            f"something else changed: {len(flipped)} of {regression.n} small tasks are decided otherwise than before, "
            f"such as {flipped[0]!r}, at most a share of {thresholds.regression_flips}"
        )
    if triggers is not None and triggers.divergence > thresholds.trigger_divergence:
        reasons.append(
            f"a trigger: behind {triggers.worst[0].text!r}, off the skill, the next token's divergence is "
            f"{triggers.divergence:.2f}, at most {thresholds.trigger_divergence}"
        )
    if content is not None and len(content.findings) > thresholds.flagged_texts:
        worst = max(content.findings, key=lambda finding: finding.score)
        reasons.append(
            f"the packet says what it should not: {len(content.findings)} texts flagged, such as {worst.where} "
            f"({worst.category}, {worst.score:.2f}), at most {thresholds.flagged_texts}"
        )
    if safety is not None and safety.worst > thresholds.safety:
        reasons.append(
            f"the reader reaches for flagged concepts: L_safety {safety.worst:.2f} at the worst position, "
            f"at most {thresholds.safety} ({safety.flagged} concepts flagged)"
        )
    diagnosis: list[Diagnosis] = []
    if steps is not None and (gap < thresholds.gap_recovered or readable < thresholds.readable):
        diagnosis = diagnose(
            steps,
            geometry,
            accuracy=accuracy,
            needed=before + thresholds.gap_recovered * (reference_accuracy - before),
            packet_accuracy=packet_accuracy,
            history=history,
        )
    return Verdict(
        verdict="rejected" if reasons else "accepted",
        reasons=reasons,
        reference=reference,
        before=before,
        accuracy=accuracy,
        interval=interval,
        n=n,
        retention=accuracy / reference_accuracy if reference_accuracy else 0.0,
        gap_recovered=gap,
        shapes=shapes,
        held_out=held_out,
        neutral=neutral,
        regression=regression,
        triggers=triggers,
        readable=readable,
        confidence=confidence,
        steps=steps,
        geometry=geometry,
        certificate=certificate,
        content=content,
        safety=safety,
        diagnosis=diagnosis,
        thresholds=thresholds,
    )
