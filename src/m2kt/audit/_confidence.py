"""What the teacher itself is sure of, and what of that arrived: it writes its guesses as it writes what it knows.

The packet carries the teacher's probability of what it writes at each row (``confidence_K``). A prompt is *doubted*
where the least sure of the rows that it takes lies below a limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, Field

from m2kt.audit._skill import gap_recovered
from m2kt.packet import Packet, Trace
from m2kt.probes import Prompt, Truth


class Part(BaseModel):
    """Some of the prompts."""

    n: int = Field(description="Prompts judged.")
    packet: float = Field(description="Accuracy of the packet's own roll-out.")
    accuracy: float = Field(description="Accuracy with the adapter.")
    as_packet: float = Field(description="Share answered as the packet answers, right or wrong.")
    gap_recovered: float = Field(description="(accuracy - before) / (reference - before), on these prompts.")


class Confidence(BaseModel):
    """The prompts by what the teacher thinks of its own answers."""

    mean: float = Field(description="Mean over prompts of the teacher's probability of its least sure row.")
    limit: float = Field(description="Below it, a prompt is doubted.")
    doubted: int = Field(description="Prompts that the teacher doubts.")
    n: int = Field(description="Prompts judged.")
    sure: Part | None = Field(description="Those that it does not doubt; null: there are none.")
    unsure: Part | None = Field(description="Those that it doubts; null: there are none.")

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
    """None where the packet does not say how sure its teacher is, or nothing can be judged.

    Args:
        traces: the packet's own roll-outs over ``prompts``; prompts that it does not cover are passed over.
        roll_out: what these answer, by prompt (:func:`trace_answers`).
        after: what the student answers with the adapter, by prompt.
        before: what it answered without, of those that were asked.
        reference: accuracy that is held against; None: the packet's own, of the same prompts.
    """
    confidence_K = packet.confidence_K
    if confidence_K is None:
        return None
    least: dict[str, float] = {}
    for prompt, trace in zip(prompts, traces, strict=True):
        if trace.complete and truth.judge(prompt.text, roll_out[prompt.text]) is not None:
            rows = [packet.graph.concept(unit) for unit in trace.units if unit.kind == "rule"]
            least[prompt.text] = float(confidence_K[rows].min()) if rows else 1.0
    if not least:
        return None

    def right(answers: Mapping[str, str | None], texts: list[str]) -> float:
        judged = [bool(truth.judge(text, answers[text])) for text in texts]
        return sum(judged) / len(judged) if judged else 0.0

    def part(texts: list[str]) -> Part | None:
        if not texts:
            return None
        packet_right, now = right(roll_out, texts), right(after, texts)
        then = right(before, [text for text in texts if text in before])
        return Part(
            n=len(texts),
            packet=packet_right,
            accuracy=now,
            as_packet=sum(after[text] == roll_out[text] for text in texts) / len(texts),
            gap_recovered=gap_recovered(then, now, packet_right if reference is None else reference),
        )

    doubted = [text for text, sure in least.items() if sure < limit]
    return Confidence(
        mean=sum(least.values()) / len(least),
        limit=limit,
        doubted=len(doubted),
        n=len(least),
        sure=part([text for text in least if text not in set(doubted)]),
        unsure=part(doubted),
    )
