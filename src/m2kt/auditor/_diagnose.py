"""Why was the skill not reached? Recognise known signatures of failure in measurements of single steps.

A stage is named for the steps that fail at it first, so that consequences of a failure are not named as further ones.
If single steps are right, the cause is the tokens between them, the packet, or whole answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from pydantic import BaseModel, Field

from m2kt.auditor._geometry import Geometry
from m2kt.auditor._steps import STAGES, Stage, Steps

# Minimum share of the lost answers, or of the failing steps, that a named cause accounts for.
PART = 0.2
# Share of right vectors, arguments or rehearsed positions from which on a part counts as learnt.
LEARNT = 0.9
# Minimum share of causal edges, and of readable vectors, in packets that teach a skill.
MOST = 0.5

Name = Literal[
    "selector wrong",
    "pointers slip",
    "attention not causal",
    "row not found",
    "reader silenced",
    "vectors unreadable",
    "read-out wrong",
    "step wrong",
    "structure wrong",
    "geometry without skill",
    "packet wrong",
    "unexplained",
]

_TRAIN = "Train longer; then enlarge the reader (reader.*), or read other states (reader.read_depths)."
_STAGES: dict[Stage, tuple[Name, str]] = {
    "selected": (
        "selector wrong",
        "The selector names the right rule in {share:.0%} of the steps: the procedure is not learnt. " + _TRAIN,
    ),
    "gathered": (
        "pointers slip",
        "The argument heads attend to the right arguments in {share:.0%} of the steps. " + _TRAIN,
    ),
    "retrieved": (
        "row not found",
        "The right row has the largest weight in {share:.0%} of the steps, and no earlier stage explains that. Flagged "
        "rows are filtered; the flat reader confuses rows with similar cues.",
    ),
    "written": (
        "reader silenced",
        "The right row is found, but the reader is gated off: it is active in {share:.0%} of the steps. No rehearsed "
        "trace has such a context (reader.silence: 1 turns gating off).",
    ),
    "readable": (
        "vectors unreadable",
        "The right rows are found, but only {share:.0%} of their vectors decode with margin from the packet's "
        "prototypes. The cause is the packet, not the student: extract it again.",
    ),
    "read_out": (
        "read-out wrong",
        "The right row is found and its vector decodes with margin, yet the student writes another symbol: {share:.0%} "
        "of the steps are right.",
    ),
}
_READER_FAILURES = {"selector wrong", "pointers slip", "row not found", "structure wrong"}


class Diagnosis(BaseModel):
    """A recognised signature of failure."""

    name: Name
    says: str = Field(description="What is wrong and what to try.")
    evidence: dict[str, float] = Field(description="The measurements that it follows from.")


def diagnose(
    steps: Steps,
    geometry: Geometry | None,
    *,
    accuracy: float,
    needed: float,
    packet_accuracy: float | None = None,
    history: Sequence[Mapping[str, float]] = (),
) -> list[Diagnosis]:
    """Name the causes of a missed skill, by stage; none if it is reached or no step was measured.

    Args:
        steps: single steps, teacher-forced.
        geometry: where phi maps the packet's vectors; None if there is no phi.
        accuracy: of whole answers.
        needed: accuracy from which on the skill counts as reached.
        packet_accuracy: accuracy of the packet's rollout against the same reference; None: not known.
        history: losses and accuracies of the rehearsal, by update; empty if nothing was trained.
    """
    # A student decodes noise as the prototypes do: its steps are then right without meaning.
    unreadable = _unreadable(steps)
    if accuracy >= needed or not steps.n:
        return unreadable

    def explains(share: float | None) -> bool:
        """Whether the wrong ones account for a sufficient share of the lost answers."""
        return share is not None and 1 - share >= PART * (1 - accuracy)

    steps_fail, packet_fails = explains(steps.chains), explains(packet_accuracy)
    causes: list[Diagnosis] = []
    if steps_fail:
        causes += _steps(steps, geometry)
    causes += [d for d in unreadable if all(d.name != other.name for other in causes)]
    # Tokens between the steps that are chosen rightly and written wrongly share the cause of the steps.
    if explains(steps.structure) and not (steps_fail and steps.procedure and not explains(steps.procedure)):
        causes += _structure(steps)
    if any(d.name in _READER_FAILURES for d in causes):
        causes += _geometry_without_skill(steps, geometry, history)
    causes += _not_causal(steps, steps.causal_failed if steps_fail else steps.causal if packet_fails else None)
    if packet_accuracy is not None and packet_fails:
        says = (
            f"The packet's rollout is right in {packet_accuracy:.0%} of the answers: a student that follows it cannot "
            "do better. Extract it again, from a teacher with the skill."
        )
        causes.append(Diagnosis(name="packet wrong", says=says, evidence={"packet accuracy": packet_accuracy}))
    if not causes:
        says = (
            f"In the {steps.traces} measured traces the packet's rollout is right, and so is the teacher-forced "
            "student at every token. Look at the wrong answers: this is no known signature."
        )
        causes.append(Diagnosis(name="unexplained", says=says, evidence={"accuracy": accuracy, **steps.shares}))
    return sorted(causes, key=lambda d: get_args(Name).index(d.name))


def _steps(steps: Steps, geometry: Geometry | None) -> list[Diagnosis]:
    """The stages at which steps fail."""
    assert steps.read_out is not None
    failed = 1 - steps.read_out
    if steps.retrieved is None:
        says = (
            f"{failed:.0%} of single steps are wrong although teacher-forced. This adapter has no reader with stages "
            "to measure: the rules have to be in its weights."
        )
        return [Diagnosis(name="step wrong", says=says, evidence={"read_out": steps.read_out})]
    causes = []
    for stage in STAGES:
        failed_at_stage, share = steps.failed.get(stage, 0.0), getattr(steps, stage)
        if failed_at_stage < PART * failed or not failed_at_stage:
            continue
        name, says = _STAGES[stage]
        evidence = {stage: share, "failed": failed, "failed here": failed_at_stage}
        says = says.format(share=share)
        if stage == "read_out" and geometry is not None:
            evidence["nearest"] = geometry.nearest
            says += f" phi maps {geometry.nearest:.0%} of the vectors nearest to the right state of the student: "
            says += (
                "the injection is right, but too weak or overruled by later blocks (projector.gain, "
                "reader.write_depth)."
                if geometry.nearest >= LEARNT
                else "phi is wrong (more updates, another projector.kind)."
            )
        if stage == "read_out" and steps.causal_failed is not None:
            evidence["causal edges"] = steps.causal_failed
        causes.append(Diagnosis(name=name, says=says, evidence=evidence))
    return causes


def _unreadable(steps: Steps) -> list[Diagnosis]:
    """Vectors that do not decode with margin, whether or not steps fail."""
    if steps.readable is None or steps.readable >= MOST:
        return []
    name, says = _STAGES["readable"]
    says = says.format(share=steps.readable)
    return [Diagnosis(name=name, says=says, evidence={"readable": steps.readable})]


def _structure(steps: Steps) -> list[Diagnosis]:
    """Copies and literals: what to write next, and from which unit."""
    assert steps.structure is not None
    evidence = {"structure": steps.structure}
    says = f"Copies and literals between the steps are all right in {steps.structure:.0%} of the traces. "
    if steps.procedure is None:
        says += "Train longer."
    else:
        evidence["procedure"] = steps.procedure
        says += f"The reader's choices for them are all right in {steps.procedure:.0%}. " + _TRAIN
    return [Diagnosis(name="structure wrong", says=says, evidence=evidence)]


def _not_causal(steps: Steps, causal: float | None) -> list[Diagnosis]:
    """The reader attends to the packet's sources without success: are these edges causal?"""
    if steps.gathered is None or steps.gathered < LEARNT or causal is None or causal >= MOST:
        return []
    says = (
        f"Attention is aligned with the packet's edges ({steps.gathered:.0%}), but only {causal:.0%} of these edges "
        "are causal: the teacher attends along the others without effect, so following them cannot give its answers. "
        "Extract again with more samples."
    )
    evidence = {"gathered": steps.gathered, "causal edges": causal}
    return [Diagnosis(name="attention not causal", says=says, evidence=evidence)]


def _geometry_without_skill(
    steps: Steps, geometry: Geometry | None, history: Sequence[Mapping[str, float]]
) -> list[Diagnosis]:
    """L_geo is low and the reader still fails: too little capacity, or too little training."""
    if geometry is None or geometry.nearest < LEARNT:
        return []
    assert steps.read_out is not None
    last = {key: losses[key] for losses in history for key in ("geo", "class", "edge") if key in losses}
    says = f"phi maps {geometry.nearest:.0%} of the vectors nearest to the right state, but the skill does not follow. "
    if min(last.get("class", 0.0), last.get("edge", 0.0)) >= LEARNT:
        says += "The rehearsal was learnt: the adapter is too small apart from phi (reader.*, steering.rank)."
    else:
        says += "First more updates, until the rehearsal is learnt; then more capacity (reader.*, steering.rank)."
    evidence = {"nearest": geometry.nearest, "distance": geometry.distance, "read_out": steps.read_out}
    evidence |= {f"rehearsal {key}": value for key, value in last.items()}
    return [Diagnosis(name="geometry without skill", says=says, evidence=evidence)]
