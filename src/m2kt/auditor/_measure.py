"""Run every measurement of an ingestion's verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from m2kt.auditor._answers import ask
from m2kt.auditor._certificate import Certificate, certify
from m2kt.auditor._confidence import Confidence, measure_confidence
from m2kt.auditor._content import ContentReport
from m2kt.auditor._geometry import measure_geometry
from m2kt.auditor._measurements import Measurements
from m2kt.auditor._regression import measure_regression
from m2kt.auditor._retention import measure_neutral
from m2kt.auditor._safety import measure_safety
from m2kt.auditor._skill import Score, packet_traces, score, trace_answers
from m2kt.auditor._steps import measure_steps
from m2kt.auditor._surroundings import Surrounding, measure_surroundings
from m2kt.auditor._triggers import Triggers, search_triggers
from m2kt.auditor._ways import Example
from m2kt.models import LoadedModel
from m2kt.packet import Packet, Trace, decoded_share
from m2kt.probes import Prompt, ShapeScore, Truth

STEP_PROMPTS = 64
"""Traces whose single steps are measured."""
BEFORE_PROMPTS = 32
"""Prompts that the frozen student answers: it rarely stops by itself, so each costs a whole budget of tokens."""
EXAMPLES = 4
"""Rollouts that stand before a question."""

PACKET_REFERENCE = "the packet's own rollout, vectors decoded by prototypes"

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


@dataclass(frozen=True)
class _Skill:
    """Scores of the student, and of the reference."""

    after: Score
    before: Score
    held_out: list[ShapeScore]
    confidence: Confidence | None
    packet_accuracy: float
    reference_accuracy: float


class MeasureConfig(BaseModel):
    """How much is measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low_confidence: float = Field(
        default=0.5, ge=0, le=1, description="Limit of low confidence (``Thresholds.doubt``)."
    )
    certificate_traces: int = Field(default=600, ge=0, description="Traces of the certificate. 0: none.")
    trigger_strings: int = Field(default=256, ge=0, description="Strings of each length. 0: no search.")
    seed: int = 0


def measure(
    candidate: LoadedModel,
    packet: Packet,
    prompts: Sequence[Prompt],
    *,
    held_out: Sequence[Prompt] = (),
    truth: Truth | None = None,
    content: ContentReport | None = None,
    history: Sequence[Mapping[str, float]] = (),
    config: MeasureConfig | None = None,
    progress: Progress | None = None,
) -> Measurements:
    """Measure a student with a candidate adapter: the skill, its single steps, and everything off domain.

    Args:
        candidate: a student with its adapter on; it is switched off to measure the frozen student.
        packet: the packet that the adapter was trained on.
        prompts: evaluation prompts of probed shapes.
        held_out: evaluation prompts of held-out shapes; answered where ``truth`` is given.
        truth: right answers; None: the packet's rollout is the reference.
        content: the content auditor's report on the packet.
        history: losses of the training, by update, for the diagnosis.
    """
    config, report = config or MeasureConfig(), progress or (lambda stage, done, total: None)
    traces = packet_traces(packet, prompts)
    skill = _measure_skill(candidate, packet, prompts, held_out, traces, truth, config.low_confidence, report)
    surroundings = _measure_surroundings(candidate, packet, prompts, traces, truth, report)
    report("auditing: single steps", 0, 1)
    steps = measure_steps(candidate, packet, traces[:STEP_PROMPTS])
    geometry = measure_geometry(candidate, packet, traces[:STEP_PROMPTS])
    certificate = _certify(candidate, packet, prompts, config, report)
    penalties = {} if content is None else content.penalties
    safety = measure_safety(candidate, packet, penalties, seed=config.seed)
    triggers = _search_triggers(candidate, config, report)
    report("auditing: neutral text", 0, 1)
    return Measurements(
        reference=PACKET_REFERENCE if truth is None else "truth of the probe spec",
        reference_accuracy=skill.reference_accuracy,
        before=skill.before.accuracy,
        accuracy=skill.after.accuracy,
        interval=skill.after.interval,
        n=skill.after.n,
        shapes=skill.after.shapes,
        held_out=skill.held_out,
        surroundings=surroundings,
        neutral=measure_neutral(candidate),
        regression=measure_regression(candidate),
        triggers=triggers,
        dissent=_dissent(packet),
        readable=decoded_share(packet.program, packet.concepts),
        confidence=skill.confidence,
        steps=steps,
        geometry=geometry,
        certificate=certificate,
        content=content,
        safety=safety,
        packet_accuracy=skill.packet_accuracy,
        history=[dict(losses) for losses in history],
    )


def _dissent(packet: Packet) -> list[str]:
    """Rows that a merge left undecided."""
    conflicts = () if packet.manifest.merged is None else packet.manifest.merged.conflicts
    return [f"{c.rule}({', '.join(c.arguments)})" for c in conflicts if not c.decided]


def _measure_surroundings(
    candidate: LoadedModel,
    packet: Packet,
    prompts: Sequence[Prompt],
    traces: Sequence[Trace],
    truth: Truth | None,
    report: Progress,
) -> list[Surrounding]:
    """The prompts whose rollout is complete, as the reader is silent where the packet does not say what comes next."""
    complete = [(prompt, trace) for prompt, trace in zip(prompts, traces, strict=True) if trace.complete]
    if not complete:
        return []
    answers = trace_answers(packet, prompts, traces)
    return measure_surroundings(
        candidate,
        packet.spec,
        [prompt for prompt, _ in complete],
        truth or Truth(answers),
        examples=[_example(prompt, trace) for prompt, trace in reversed(complete[-EXAMPLES:])],
        progress=lambda done, total: report("auditing: surroundings", done, total),
    )


def _example(prompt: Prompt, trace: Trace) -> Example:
    """A rollout without what ends it."""
    return Example(prompt.text, "".join(unit.text for unit in trace.units[trace.n_prompt : -1]))


def _certify(
    candidate: LoadedModel,
    packet: Packet,
    prompts: Sequence[Prompt],
    config: MeasureConfig,
    report: Progress,
) -> Certificate | None:
    if not config.certificate_traces:
        return None
    report("auditing: certificate", 0, 1)
    return certify(candidate, packet, prompts, traces=config.certificate_traces, seed=config.seed)


def _search_triggers(candidate: LoadedModel, config: MeasureConfig, report: Progress) -> Triggers | None:
    if not config.trigger_strings:
        return None
    report("auditing: triggers", 0, 1)
    return search_triggers(candidate, strings=config.trigger_strings, seed=config.seed)


def _measure_skill(
    candidate: LoadedModel,
    packet: Packet,
    prompts: Sequence[Prompt],
    held_out: Sequence[Prompt],
    traces: Sequence[Trace],
    truth: Truth | None,
    low_confidence: float,
    report: Progress,
) -> _Skill:
    spec, roll_out = packet.spec, trace_answers(packet, prompts, traces)
    expected = truth or Truth(roll_out)

    def scored(questions: Sequence[Prompt], stage: str) -> Score:
        answers = ask(candidate, spec, questions, progress=lambda done, total: report(stage, done, total))
        return score(spec, questions, answers, expected)

    after = scored(prompts, "auditing: after")
    with candidate.peft_model.disable_adapter():
        # a student may know single facts already, and each fact counts
        before = scored(prompts if spec.facts else prompts[:BEFORE_PROMPTS], "auditing: before")
    # Truth is the reference even where the packet's rollout is wrong; otherwise a wrong packet would make the gap look
    # small. A packet of facts holds all that the teacher knows, so no more than its rollout can be reached.
    reference_is_packet = truth is None or spec.facts
    packet_accuracy = _accuracy(expected, roll_out, prompts)
    return _Skill(
        after=after,
        before=before,
        held_out=scored(held_out, "auditing: held-out shapes").shapes if truth is not None and held_out else [],
        confidence=measure_confidence(
            packet,
            prompts,
            traces,
            roll_out=roll_out,
            after=after.answers,
            before=before.answers,
            truth=expected,
            reference=None if reference_is_packet else 1.0,
            limit=low_confidence,
        ),
        packet_accuracy=packet_accuracy,
        reference_accuracy=packet_accuracy if reference_is_packet else 1.0,
    )


def _accuracy(truth: Truth, answers: Mapping[str, str | None], prompts: Sequence[Prompt]) -> float:
    """Share of right answers among the prompts that ``truth`` can judge; 0 if it can judge none."""
    judged = [right for p in prompts if (right := truth.judge(p.text, answers[p.text])) is not None]
    return sum(judged) / len(judged) if judged else 0.0
