"""A writer that slips: how often, always alike, and going on from what stands."""

from __future__ import annotations

import pytest

from benchmarks.symbolic import Pen
from benchmarks.symbolic._slips import SlippingTeacher
from m2kt.probes import ProbeSpec, Slot

SPEC = ProbeSpec(name="sums", slots={"d": Slot(values=list("0123456789"))}, templates=["{d} {d} {d} {d}:"], stop="\n")


def sums(prompt: str, pen: Pen) -> None:
    """``3 4 5 6:`` -> `` 7 2 8``, modulo 10."""
    value, *rest = prompt.rstrip(":").split(" ")
    for x in rest:
        pen.t(" ")
        value = pen.s(str((int(value) + int(x)) % 10))


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3])
def test_slips_are_as_frequent_as_asked_and_are_gone_on_from(rate: float) -> None:
    teacher = SlippingTeacher(SPEC, sums, rate)
    prompts = SPEC.sample("probing", 600, seed=0)
    answers, unstopped = teacher.answer(prompts)
    assert unstopped == 0 and teacher.slips / (3 * len(prompts)) == pytest.approx(rate, abs=0.02)
    assert answers == SlippingTeacher(SPEC, sums, rate).answer(prompts)[0]
    wrong = 0
    for answer in answers:
        value, *rest = answer.prompt.text.rstrip(":").split(" ")
        for x, written in zip(rest, answer.completion.split(), strict=True):
            wrong += int(written) != (int(value) + int(x)) % 10
            value = written
    assert wrong == teacher.slips
