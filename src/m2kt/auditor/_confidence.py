"""Accuracy by the teacher's confidence: greedy decoding writes guesses and knowledge alike.

The packet carries the teacher's probability of what it writes at each row (``confidence_K``). A prompt has *low
confidence* if the least certain of its rows lies below a limit. In JSON, ``doubted`` and ``unsure`` name prompts of low
confidence, ``sure`` those of high confidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, Field

from m2kt.auditor._skill import gap_recovered
from m2kt.packet import Packet, Trace
from m2kt.probes import Prompt, Truth


class Part(BaseModel):
    """Accuracy on prompts of low, or of high, confidence."""

    n: int = Field(description="Prompts judged.")
    packet: float = Field(description="Accuracy of the packet's rollout.")
    accuracy: float = Field(description="Accuracy with the adapter.")
    as_packet: float = Field(description="Share of answers equal to the packet's, right or wrong.")
    gap_recovered: float = Field(description="(accuracy - before) / (reference - before), on these prompts.")


class Confidence(BaseModel):
    """Prompts by the teacher's confidence."""

    mean: float = Field(description="Teacher's probability at a prompt's least certain row, mean over prompts.")
    limit: float = Field(description="A prompt below it has low confidence.")
    doubted: int = Field(description="Prompts of low confidence.")
    n: int = Field(description="Prompts judged.")
    sure: Part | None = Field(description="Prompts of high confidence; null: there are none.")
    unsure: Part | None = Field(description="Prompts of low confidence; null: there are none.")

    @property
    def high_confidence_gap(self) -> float | None:
        """Gap recovered on prompts of high confidence; None if these are all prompts, or none."""
        return self.sure.gap_recovered if self.doubted and self.sure is not None else None


def measure_confidence(
    packet: Packet,
    prompts: Sequence[Prompt],
    traces: Sequence[Trace],
    *,
    roll_out: Mapping[str, str | None],
    after: Mapping[str, str | None],
    before: Mapping[str, str | None],
    truth: Truth,
    reference: float | None,
    limit: float,
) -> Confidence | None:
    """Accuracy by confidence; None if the packet holds no confidences, or no prompt can be judged.

    Args:
        traces: the packet's rollouts over ``prompts``; prompts with an incomplete one are left out.
        roll_out: the answers of these (:func:`trace_answers`).
        after: answers of the student with the adapter.
        before: answers of the frozen student; may lack prompts.
        reference: accuracy of the reference; None: that of the packet on the same prompts.
        limit: of the teacher's probability; a prompt with a row below it has low confidence.
    """
    lowest = _lowest_confidence(packet, prompts, traces, roll_out, truth)
    if not lowest:
        return None

    def right(answers: Mapping[str, str | None], texts: list[str]) -> float:
        judged = [bool(truth.judge(text, answers[text])) for text in texts]
        return sum(judged) / len(judged) if judged else 0.0

    def part(texts: list[str]) -> Part | None:
        if not texts:
            return None
        packet_accuracy, accuracy = right(roll_out, texts), right(after, texts)
        frozen = right(before, [text for text in texts if text in before])
        return Part(
            n=len(texts),
            packet=packet_accuracy,
            accuracy=accuracy,
            as_packet=sum(after[text] == roll_out[text] for text in texts) / len(texts),
            gap_recovered=gap_recovered(frozen, accuracy, packet_accuracy if reference is None else reference),
        )

    low = [text for text, probability in lowest.items() if probability < limit]
    return Confidence(
        mean=sum(lowest.values()) / len(lowest),
        limit=limit,
        doubted=len(low),
        n=len(lowest),
        sure=part([text for text, probability in lowest.items() if not probability < limit]),
        unsure=part(low),
    )


def _lowest_confidence(
    packet: Packet,
    prompts: Sequence[Prompt],
    traces: Sequence[Trace],
    roll_out: Mapping[str, str | None],
    truth: Truth,
) -> dict[str, float]:
    """Confidence of the least certain row of each prompt that can be judged; empty if the packet holds none."""
    confidence_K = packet.confidence_K
    lowest: dict[str, float] = {}
    if confidence_K is not None:
        for prompt, trace in zip(prompts, traces, strict=True):
            if trace.complete and truth.judge(prompt.text, roll_out[prompt.text]) is not None:
                rows = [packet.program.concept(unit) for unit in trace.units if unit.kind == "rule"]
                lowest[prompt.text] = float(confidence_K[rows].min()) if rows else 1.0
    return lowest
