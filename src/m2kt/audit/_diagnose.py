"""Why was the skill not reached? Known signatures of failure, recognised in what was measured on single steps.

A stage is blamed for the steps that go wrong at it first, so what follows from a failure is not named as another one.
What is left when steps are right is named too: the tokens between them, the packet itself, or the way from one to the
next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from pydantic import BaseModel, Field

from m2kt.audit._geometry import Geometry
from m2kt.audit._steps import STAGES, Stage, Steps

# Of what is lost, what a cause must account for to be named: of the lost answers, then of the failing steps.
PART = 0.2
# Share of vectors, arguments or rehearsed positions from which on a part counts as learnt: what skills must reach.
LEARNT = 0.9
# Edges that moved the teacher, and vectors that are clear, are at least the greater part of those that teach a skill.
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

_TRAIN = "Train longer; then widen it (reader.*), or read states elsewhere (reader.read_depths)."
_STAGES: dict[Stage, tuple[Name, str]] = {
    "selected": (
        "selector wrong",
        "The selector names the right rule in {share:.0%} of the steps: the procedure is not learnt. "
        + _TRAIN,
    ),
    "gathered": (
        "pointers slip",
        "The gather heads look at the right arguments in {share:.0%} of the steps. " + _TRAIN,
    ),
    "retrieved": (
        "row not found",
        "The right row has the most weight in {share:.0%} of the steps, and nothing before it explains that. Flagged "
        "rows are filtered; the flat reader confuses rows whose cues look alike.",
    ),
    "written": (
        "reader silenced",
        "The right row is found, but the reader keeps silent: it writes in {share:.0%} of the steps. None of the "
        "made-up traces looks like these places (reader.silence: 1 lets it speak).",
    ),
    "readable": (
        "vectors unreadable",
        "The right rows are found, but their vectors say nothing: the packet's own symbol states read {share:.0%} of "
        "those met clearly. The packet is at fault, not the student: extract it again.",
    ),
    "read_out": (
        "read-out wrong",
        "The right row is found and its vector is clear, yet the student writes another symbol: {share:.0%} of the "
        "steps are read out rightly.",
    ),
}
_OF_READING = {"selector wrong", "pointers slip", "row not found", "structure wrong"}


class Diagnosis(BaseModel):
    """A signature of failure that was recognised."""

    name: Name
    says: str = Field(description="What is wrong and what to try, for people.")
    evidence: dict[str, float] = Field(description="The numbers it rests on.")


def diagnose(
    steps: Steps,
    geometry: Geometry | None,
    *,
    accuracy: float,
    needed: float,
    packet_accuracy: float | None = None,
    history: Sequence[Mapping[str, float]] = (),
) -> list[Diagnosis]:
    """Names what the numbers show, by stage; nothing where the skill is reached, or no step could be taken.

    Args:
        steps: single steps, the prefix given.
        geometry: where phi puts the packet's vectors; None where there is no phi.
        accuracy: of whole answers.
        needed: the accuracy at which the skill counts as reached.
        packet_accuracy: that of the packet's own roll-out against the same reference; None: not known.
        history: losses and hits of the rehearsal, by update; none where nothing was trained.
    """
    # A student hears noise as the packet's own symbols do: then its steps are right, and mean nothing.
    unreadable = _unreadable(steps)
    if accuracy >= needed or not steps.n:
        return unreadable

    def explains(share: float | None) -> bool:
        """Whether what is not right here is a good part of the answers lost."""
        return share is not None and 1 - share >= PART * (1 - accuracy)

    steps_fail, packet_fails = explains(steps.chains), explains(packet_accuracy)
    found: list[Diagnosis] = []
    if steps_fail:
        found += _steps(steps, geometry)
    found += [d for d in unreadable if all(d.name != other.name for other in found)]
    # What is chosen rightly between the steps and written wrongly goes the way of the steps; it is named with them.
    if explains(steps.structure) and not (steps_fail and steps.procedure and not explains(steps.procedure)):
        found += _structure(steps)
    if any(d.name in _OF_READING for d in found):
        found += _geometry_without_skill(steps, geometry, history)
    found += _not_causal(steps, steps.causal_failed if steps_fail else steps.causal if packet_fails else None)
    if packet_accuracy is not None and packet_fails:
        says = (
            f"The packet's own roll-out is right in {packet_accuracy:.0%} of the answers: a student that follows it "
            "cannot do better. Extract it again, from a teacher that can do this."
        )
        found.append(Diagnosis(name="packet wrong", says=says, evidence={"packet accuracy": packet_accuracy}))
    if not found:
        says = (
            f"In the {steps.traces} traces that were looked at, the packet's roll-out is right, and so is the student "
            "at every token when the prefix is given. Look at the wrong answers: this is no signature that is known."
        )
        found.append(
            Diagnosis(name="unexplained", says=says, evidence={"accuracy": accuracy, **steps.shares})
        )
    return sorted(found, key=lambda d: get_args(Name).index(d.name))


def _steps(steps: Steps, geometry: Geometry | None) -> list[Diagnosis]:
    """The stages at which steps are lost."""
    assert steps.read_out is not None
    lost = 1 - steps.read_out
    if steps.retrieved is None:
        says = (
            f"{lost:.0%} of single steps are wrong although the prefix is given. This adapter has no reader whose "
            "stages could be looked at: what the rules say has to be in its weights."
        )
        return [Diagnosis(name="step wrong", says=says, evidence={"read_out": steps.read_out})]
    found = []
    for stage in STAGES:
        here, share = steps.failed.get(stage, 0.0), getattr(steps, stage)
        if here < PART * lost or not here:
            continue
        name, says = _STAGES[stage]
        evidence = {stage: share, "failed": lost, "failed here": here}
        says = says.format(share=share)
        if stage == "read_out" and geometry is not None:
            evidence["nearest"] = geometry.nearest
            says += (
                f" phi puts {geometry.nearest:.0%} of the vectors nearest to the right state of the student: "
            )
            says += (
                "what is written is right, but too weak or overruled above (projector.gain, reader.write_depth)."
                if geometry.nearest >= LEARNT
                else "phi maps them wrongly (more updates, another projector.kind)."
            )
        if stage == "read_out" and steps.causal_failed is not None:
            evidence["causal edges"] = steps.causal_failed
        found.append(Diagnosis(name=name, says=says, evidence=evidence))
    return found


def _unreadable(steps: Steps) -> list[Diagnosis]:
    """Vectors that say nothing, whatever the student makes of them."""
    if steps.readable is None or steps.readable >= MOST:
        return []
    name, says = _STAGES["readable"]
    says = says.format(share=steps.readable)
    return [Diagnosis(name=name, says=says, evidence={"readable": steps.readable})]


def _structure(steps: Steps) -> list[Diagnosis]:
    """Copies and literals, which are procedure: what to write next, and from where."""
    assert steps.structure is not None
    evidence = {"structure": steps.structure}
    says = f"Copies and literals between the steps are all right in {steps.structure:.0%} of the traces. "
    if steps.procedure is None:
        says += "Train longer."
    else:
        evidence["procedure"] = steps.procedure
        says += f"What the reader chooses for them is right throughout in {steps.procedure:.0%}. " + _TRAIN
    return [Diagnosis(name="structure wrong", says=says, evidence=evidence)]


def _not_causal(steps: Steps, causal: float | None) -> list[Diagnosis]:
    """The reader looks where the packet says, in vain: did the edges concerned move the teacher?"""
    if steps.gathered is None or steps.gathered < LEARNT or causal is None or causal >= MOST:
        return []
    says = (
        f"Attention is aligned with the packet's edges ({steps.gathered:.0%}), but only {causal:.0%} of the edges "
        "concerned moved the teacher when they were cut or their symbol was exchanged: it attends there without "
        "effect, so following them cannot give its answers. Extract again with more samples."
    )
    evidence = {"gathered": steps.gathered, "causal edges": causal}
    return [Diagnosis(name="attention not causal", says=says, evidence=evidence)]


def _geometry_without_skill(
    steps: Steps, geometry: Geometry | None, history: Sequence[Mapping[str, float]]
) -> list[Diagnosis]:
    """L_geo is down, and the reader still fails: capacity, unless its rehearsal was not learnt either."""
    if geometry is None or geometry.nearest < LEARNT:
        return []
    assert steps.read_out is not None
    last = {key: losses[key] for losses in history for key in ("geo", "class", "edge") if key in losses}
    says = f"phi puts {geometry.nearest:.0%} of the vectors nearest to the right state, but the skill does not follow. "
    if min(last.get("class", 0.0), last.get("edge", 0.0)) >= LEARNT:
        says += "Its rehearsal was learnt: what the adapter holds beside phi is too small (reader.*, steering.rank)."
    else:
        says += (
            "First more updates, until its rehearsal is learnt; then more capacity (reader.*, steering.rank)."
        )
    evidence = {"nearest": geometry.nearest, "distance": geometry.distance, "read_out": steps.read_out}
    evidence |= {f"rehearsal {key}": value for key, value in last.items()}
    return [Diagnosis(name="geometry without skill", says=says, evidence=evidence)]
