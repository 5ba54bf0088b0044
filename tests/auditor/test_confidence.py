"""Prompts are split by the confidence of their least certain row, and the verdict checks both parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from m2kt.auditor import Confidence, measure_confidence, packet_traces
from m2kt.packet import Packet
from m2kt.probes import Prompt, Truth
from tests.auditor.test_verdict import verdict
from tests.packet.samples import sample_packet

LOW = 3  # of nine rows, the first ones


def packet(high: float = 0.9, low: float = 0.2) -> Packet:
    sample = sample_packet(verbalised=True)
    confidence_K = np.full(sample.n_concepts, high, np.float32)
    confidence_K[:LOW] = low
    spec = sample.spec.model_copy(update={"answer": None})  # the whole completion is the answer
    return sample.replace(spec=spec, traces={**sample.traces, "confidence_K": confidence_K})


def measured(packet: Packet, wrong_up_to: float, **changes: Any) -> tuple[Confidence, list[Prompt]]:
    """A student that answers as the packet does, except prompts with a row of confidence at most ``wrong_up_to``."""
    prompts = packet.spec.sample("evaluation", 30, seed=0)
    traces = packet_traces(packet, prompts)
    answers = {p.text: packet.spec.read_answer(t.completion) for p, t in zip(prompts, traces, strict=True)}
    lowest = {
        p.text: min(packet.confidence_K[packet.program.concept(u)] for u in t.units if u.kind == "rule")
        for p, t in zip(prompts, traces, strict=True)
    }
    after = {text: "?" if lowest[text] <= wrong_up_to else answer for text, answer in answers.items()}
    arguments: dict[str, Any] = {
        "roll_out": answers, "after": after, "before": dict.fromkeys(answers), "truth": Truth(answers),
        "reference": None, "limit": 0.5,
    }  # fmt: skip
    confidence = measure_confidence(packet, prompts, traces, **(arguments | changes))
    assert confidence is not None
    return confidence, prompts


def test_prompts_are_split_by_their_least_certain_row() -> None:
    confidence, prompts = measured(packet(), wrong_up_to=0.5)
    assert confidence.n == len(prompts) and 0 < confidence.doubted < confidence.n
    assert confidence.sure is not None and confidence.unsure is not None
    assert (confidence.sure.n, confidence.unsure.n) == (confidence.n - confidence.doubted, confidence.doubted)
    assert (confidence.sure.as_packet, confidence.sure.gap_recovered) == (1.0, 1.0)
    assert (confidence.unsure.as_packet, confidence.unsure.gap_recovered) == (0.0, 0.0)
    assert confidence.mean == pytest.approx((0.9 * confidence.sure.n + 0.2 * confidence.doubted) / confidence.n)


def test_one_row_of_low_confidence_is_enough() -> None:
    made = packet()
    prompts = made.spec.sample("evaluation", 30, seed=0)
    traces = packet_traces(made, prompts)
    rows = [(t, u) for t in traces for u in t.units if u.kind == "rule"]
    low = next(u for _, u in rows if made.program.concept(u) < LOW)
    trace, prompt = next((t, p) for (t, u), p in zip(rows, prompts, strict=True) if made.program.concept(u) >= LOW)
    trace.units.append(low)
    answers: dict[str, str | None] = {prompt.text: "a"}
    confidence = measure_confidence(
        made,
        [prompt],
        [trace],
        roll_out=answers,
        after=answers,
        before={},
        truth=Truth(answers),
        reference=None,
        limit=0.5,
    )
    assert confidence is not None and (confidence.doubted, confidence.n) == (1, 1)
    assert confidence.mean == pytest.approx(0.2)


def test_limit_zero_means_high_confidence_and_one_means_low() -> None:
    none, _ = measured(packet(), wrong_up_to=0.0, limit=0.0)
    assert (none.doubted, none.unsure) == (0, None)
    every, _ = measured(packet(), wrong_up_to=0.0, limit=1.0)
    assert (every.doubted, every.sure) == (every.n, None)


def test_a_packet_without_confidences_is_not_judged_by_them() -> None:
    sample = sample_packet(verbalised=True)
    prompts = sample.spec.sample("evaluation", 5, seed=0)
    answers: dict[str, str | None] = {p.text: "a" for p in prompts}
    traces = packet_traces(sample, prompts)
    assert sample.confidence_K is None
    assert (
        measure_confidence(
            sample,
            prompts,
            traces,
            roll_out=answers,
            after=answers,
            before={},
            truth=Truth(answers),
            reference=None,
            limit=0.5,
        )
        is None
    )


def test_the_gap_must_be_recovered_at_high_confidence() -> None:
    low_lost, _ = measured(packet(), wrong_up_to=0.5)
    assert verdict(confidence=low_lost).verdict == "accepted"
    lost, _ = measured(packet(high=0.2, low=0.9), wrong_up_to=0.5)
    assert lost.unsure is not None and lost.unsure.gap_recovered == 0.0
    high_lost, _ = measured(packet(), wrong_up_to=0.95)
    refused = verdict(confidence=high_lost)
    assert refused.verdict == "rejected"
    assert any("prompts of high teacher confidence" in reason for reason in refused.reasons)


def test_a_teacher_of_low_confidence_is_rejected() -> None:
    guessing, _ = measured(packet(high=0.24), wrong_up_to=0.0)
    assert verdict(confidence=measured(packet(high=0.4), wrong_up_to=0.0)[0]).verdict == "accepted"
    assert any("low teacher confidence" in reason for reason in verdict(confidence=guessing).reasons)
