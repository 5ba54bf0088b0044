"""What the teacher is sure of: prompts are told apart by their least sure row, and the verdict looks at both parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from m2kt.audit import Confidence, measure_confidence, packet_traces
from m2kt.packet import Packet
from m2kt.probes import Prompt, Truth
from tests.audit.test_verdict import verdict
from tests.packet.samples import sample_packet

DOUBTED = 3  # rows of nine, the first ones


def packet(sure: float = 0.9, unsure: float = 0.2) -> Packet:
    plain = sample_packet(verbalised=True)
    confidence_K = np.full(plain.n_concepts, sure, np.float32)
    confidence_K[:DOUBTED] = unsure
    whole = plain.spec.model_copy(update={"answer": None})  # the whole completion is the answer
    return plain.replace(spec=whole, traces={**plain.traces, "confidence_K": confidence_K})


def measured(made: Packet, spoilt: float, **changes: Any) -> tuple[Confidence, list[Prompt]]:
    """With a student that answers as the packet does, but for prompts that take a row of at most ``spoilt``."""
    prompts = made.spec.sample("evaluation", 30, seed=0)
    traces = packet_traces(made, prompts)
    own = {p.text: made.spec.read_answer(t.completion) for p, t in zip(prompts, traces, strict=True)}
    least = {
        p.text: min(made.confidence_K[made.graph.concept(u)] for u in t.units if u.kind == "rule")
        for p, t in zip(prompts, traces, strict=True)
    }
    after = {text: "?" if least[text] <= spoilt else answer for text, answer in own.items()}
    known: dict[str, Any] = {
        "roll_out": own, "after": after, "before": dict.fromkeys(own), "truth": Truth(own), "reference": None,
        "limit": 0.5,
    }  # fmt: skip
    found = measure_confidence(made, prompts, traces, **(known | changes))
    assert found is not None
    return found, prompts


def test_prompts_are_told_apart_by_their_least_sure_row() -> None:
    found, prompts = measured(packet(), spoilt=0.5)
    assert found.n == len(prompts) and 0 < found.doubted < found.n
    assert found.sure is not None and found.unsure is not None
    assert (found.sure.n, found.unsure.n) == (found.n - found.doubted, found.doubted)
    assert (found.sure.as_packet, found.sure.gap_recovered) == (1.0, 1.0)
    assert (found.unsure.as_packet, found.unsure.gap_recovered) == (0.0, 0.0)
    assert found.mean == pytest.approx((0.9 * found.sure.n + 0.2 * found.doubted) / found.n)


def test_one_row_in_doubt_is_enough() -> None:
    made = packet()
    prompts = made.spec.sample("evaluation", 30, seed=0)
    traces = packet_traces(made, prompts)
    rows = [(t, u) for t in traces for u in t.units if u.kind == "rule"]
    doubted = next(u for _, u in rows if made.graph.concept(u) < DOUBTED)
    sure, prompt = next(
        (t, p) for (t, u), p in zip(rows, prompts, strict=True) if made.graph.concept(u) >= DOUBTED
    )
    sure.units.append(doubted)
    own: dict[str, str | None] = {prompt.text: "a"}
    found = measure_confidence(
        made,
        [prompt],
        [sure],
        roll_out=own,
        after=own,
        before={},
        truth=Truth(own),
        reference=None,
        limit=0.5,
    )
    assert found is not None and (found.doubted, found.n) == (1, 1)
    assert found.mean == pytest.approx(0.2)


def test_nothing_is_doubted_at_limit_zero_and_all_at_one() -> None:
    none, _ = measured(packet(), spoilt=0.0, limit=0.0)
    assert (none.doubted, none.unsure) == (0, None)
    every, _ = measured(packet(), spoilt=0.0, limit=1.0)
    assert (every.doubted, every.sure) == (every.n, None)


def test_a_packet_that_does_not_say_is_not_judged_by_it() -> None:
    plain = sample_packet(verbalised=True)
    prompts = plain.spec.sample("evaluation", 5, seed=0)
    answers: dict[str, str | None] = {p.text: "a" for p in prompts}
    traces = packet_traces(plain, prompts)
    assert plain.confidence_K is None
    assert (
        measure_confidence(
            plain,
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


def test_a_student_must_have_what_the_teacher_is_sure_of() -> None:
    kept, _ = measured(packet(), spoilt=0.5)
    assert verdict(confidence=kept).verdict == "accepted"  # what is lost, the teacher itself doubts
    lost, _ = measured(packet(sure=0.2, unsure=0.9), spoilt=0.5)
    assert lost.unsure is not None and lost.unsure.gap_recovered == 0.0
    turned, _ = measured(packet(), spoilt=0.95)
    refused = verdict(confidence=turned)
    assert refused.verdict == "rejected"
    assert any("prompts of high teacher confidence" in reason for reason in refused.reasons)


def test_a_teacher_that_mostly_guesses_is_rejected() -> None:
    guessing, _ = measured(packet(sure=0.24), spoilt=0.0)
    assert verdict(confidence=measured(packet(sure=0.4), spoilt=0.0)[0]).verdict == "accepted"
    assert any("low teacher confidence" in reason for reason in verdict(confidence=guessing).reasons)
