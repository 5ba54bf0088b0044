"""Score answers against a truth, and roll the packet out to obtain its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt

from m2kt.packet import Packet, ProgramExecutor, Trace, decode_outputs, fixed_lookup
from m2kt.probes import ProbeSpec, Prompt, ShapeScore, Truth


@dataclass(frozen=True)
class Score:
    """How many of n answers are right, in all and by shape."""

    right: int
    n: int
    shapes: list[ShapeScore] = field(default_factory=list)
    wrong: list[dict[str, str | None]] = field(default_factory=list)  # the first eight
    answers: dict[str, str | None] = field(default_factory=dict)  # by prompt, whether the truth knows it or not

    @property
    def accuracy(self) -> float:
        """right / n; 0 if n is 0."""
        return self.right / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 95 % interval."""
        return wilson(self.right, self.n)


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a share; (0, 1) if n is 0. scipy's fixes z at 1.95996; results use 1.96."""
    if n == 0:
        return (0.0, 1.0)
    p = right / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return (max(0.0, centre - half), min(1.0, centre + half))


def gap_recovered(before: float, after: float, reference: float) -> float:
    """(after - before) / (reference - before). Without a gap: 1 if ``after`` reaches the reference, else 0."""
    if reference <= before:
        return 1.0 if after >= reference else 0.0
    return (after - before) / (reference - before)


def score(
    spec: ProbeSpec,
    prompts: Sequence[Prompt],
    completions: Sequence[str],
    truth: Truth | Callable[[str], str | None] | Mapping[str, str | None],
) -> Score:
    """Judge the answers in ``completions``. Prompts that ``truth`` does not know are not counted.

    Args:
        truth: a function or mapping is compared with for equality.
    """
    truth = truth if isinstance(truth, Truth) else Truth(truth)
    counts: dict[tuple[int, bool], list[int]] = {}
    wrong: list[dict[str, str | None]] = []
    answers: dict[str, str | None] = {}
    for prompt, completion in zip(prompts, completions, strict=True):
        answer = answers[prompt.text] = spec.read_answer(completion)
        right = truth.judge(prompt.text, answer)
        if right is None:
            continue
        count = counts.setdefault((prompt.template, prompt.held_out), [0, 0])
        count[1] += 1
        count[0] += right
        if not right and len(wrong) < 8:
            expected = truth.expected(prompt.text)
            wrong.append({"prompt": prompt.text, "expected": expected, "came": answer, "completion": completion})
    shapes = [
        ShapeScore(template=spec.template_text(t, h), held_out=h, n=n, accuracy=hits / n)
        for (t, h), (hits, n) in sorted(counts.items(), key=lambda c: (c[0][1], c[0][0]))
    ]
    hits, n = (sum(c[i] for c in counts.values()) for i in (0, 1))
    return Score(hits, n, shapes, wrong, answers)


def packet_traces(packet: Packet, prompts: Sequence[Prompt]) -> list[Trace]:
    """The packet's rollout over each prompt, its vectors decoded by its prototypes."""
    execute = ProgramExecutor(packet.program)
    lookup = fixed_lookup(decode_outputs(packet.program, packet.concepts), packet.program)
    return [execute(prompt, lookup) for prompt in prompts]


def packet_answers(packet: Packet, prompts: Sequence[Prompt]) -> dict[str, str | None]:
    """The answers of the packet's rollout by prompt; None where it is incomplete."""
    return trace_answers(packet, prompts, packet_traces(packet, prompts))


def trace_answers(packet: Packet, prompts: Sequence[Prompt], traces: Sequence[Trace]) -> dict[str, str | None]:
    """The answers in rollouts over ``prompts``; None where one is incomplete."""
    return {
        prompt.text: packet.spec.read_answer(trace.completion) if trace.complete else None
        for prompt, trace in zip(prompts, traces, strict=True)
    }
