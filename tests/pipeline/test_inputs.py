"""Evaluation prompts for a truth that covers a part of the prompts, and the scoring of their answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2kt.auditor import score
from m2kt.errors import SpecError
from m2kt.pipeline import evaluate, evaluation_prompts, read_spec
from m2kt.probes import ProbeSpec, Truth, load_truth

SPEC = """
name: pairs
slots: {x: {values: [a, b, c, d, e, f]}}
templates: ["{x} {x}:"]
held_out: ["{x} {x} {x}:"]
stop: "\\n"
"""


def test_evaluation_prompts_are_labelled_prompts(tmp_path: Path) -> None:
    spec = ProbeSpec.from_yaml(SPEC)
    evaluation = [p.text for p in spec.sample("evaluation", 3, seed=0)]
    rehearsed = [p.text for p in spec.sample("rehearsal", 3, seed=0)]

    def prompts(labelled: list[str], held_out: bool = False) -> list[str]:
        truth = Truth(dict.fromkeys(labelled, "a"))
        return [p.text for p in evaluation_prompts(spec, truth, 9, seed=0, held_out=held_out)]

    assert sorted(prompts([*rehearsed, *evaluation, "no prompt of it"])) == sorted(evaluation)
    assert prompts([*evaluation, "a b c:"], held_out=True) == ["a b c:"]
    with pytest.raises(SpecError, match=r"evaluation split.*none of the 3 problems"):
        prompts(rehearsed)
    with pytest.raises(SpecError, match="held-out shapes"):
        prompts(evaluation, held_out=True)
    assert len(evaluation_prompts(spec, Truth(lambda prompt: "a"), 9, seed=0)) > 3


def test_a_teacher_is_scored_by_the_scorer_of_its_generator() -> None:
    spec, base = read_spec("zoo:chain")
    result = evaluate("zoo:chain", "zoo:chain", n=24)
    assert (result.accuracy, result.n, result.judged) == (1.0, 24, 24)
    # compared as text, the same answers are all wrong: the teacher writes +14 and -03, the generator 14 and -3
    truth = load_truth(spec, base)
    assert truth is not None
    prompts = evaluation_prompts(spec, truth, 24, seed=0)
    answers = {p.text: f">{int(truth.expected(p.text) or ''):+03d}." for p in prompts}
    assert score(spec, prompts, list(answers.values()), truth).accuracy == 1.0
    assert score(spec, prompts, list(answers.values()), truth.expected).accuracy == 0.0
    wrong = score(spec, prompts, [">+99."] * 24, truth)
    assert wrong.accuracy == 0.0 and {w["came"] for w in wrong.wrong} == {"+99"}
