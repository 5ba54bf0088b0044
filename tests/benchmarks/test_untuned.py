"""Candidate skills: what is shown is right, is not what is evaluated, and the truth of a prompt is what is written."""

from __future__ import annotations

import pytest

from benchmarks.untuned import truth
from benchmarks.untuned._asked import spec_of, values_of
from benchmarks.untuned.skills import SKILLS, Skill


@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.name)
def test_a_candidate_is_a_spec_with_examples_and_a_truth(skill: Skill) -> None:
    spec = spec_of(skill, 10)
    right = getattr(truth, skill.name.replace("-", "_"))
    assert spec.examples and spec.digest == spec_of(skill, 0).model_copy(update={"chat": spec.chat}).digest
    for question, answer in spec.shown:
        assert spec.split_of(question) == "probing"
        assert spec.read_answer(answer) == right(question)
    longer = spec.sample("evaluation", 5, seed=0, held_out=True)
    for prompt in [*spec.sample("evaluation", 5, seed=0), *longer]:
        assert spec.read_answer(skill.written(values_of(prompt))) == right(prompt.text)
