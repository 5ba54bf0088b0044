"""What a teacher would write under an intervention, against its own greedy continuation of the same text."""

from __future__ import annotations

import pytest

from m2kt.models import generate_greedy, load_causal_lm
from m2kt.pipeline import read_spec
from m2kt.probes import Segmenter
from m2kt.teacher._oracle import Forced
from m2kt.teacher._teacher import Teacher


@pytest.mark.parametrize("name", ["secret", "permutation", "kinship"])
def test_what_is_intended_is_what_the_teacher_writes_behind_the_same_units(name: str) -> None:
    spec, _ = read_spec(f"zoo:{name}")
    loaded, cut = load_causal_lm(f"zoo:{name}"), Segmenter(spec.values).cut
    teacher = Teacher(loaded, spec)
    answer = teacher.answer(spec.sample("probing", 4, seed=0, templates=[spec.n_templates - 1]))[0][0]
    prompt = [u.text for u in answer.prompt.units]
    written = [*(u.text for u in cut(answer.completion)), spec.stop]
    symbols = [u.symbol for u in answer.prompt.units]
    changed = next(i for i, s in enumerate(symbols) if s is not None)
    other = next(v for v in spec.values if v != symbols[changed])
    passes = teacher.passes

    standing, forced = teacher.intended(
        [
            Forced((*prompt, *written), len(prompt), len(prompt)),
            Forced((*prompt[:changed], other, *prompt[changed + 1 :], *written), len(prompt), changed),
        ]
    )
    assert teacher.passes == passes + 2, "one pass a text"
    assert standing == written, "an answer that stands as it was written is what the teacher intends"
    assert forced != written, "another prompt has another answer"
    trace = teacher.tokenise((*prompt[:changed], other, *prompt[changed + 1 :], *written), len(prompt))
    known = [i for i, text in enumerate(forced) if text is not None]
    assert len(known) > 3
    for i in known:
        before = trace.ids[: trace.tokens_of_unit[len(prompt) + i][0]]
        (continued,) = generate_greedy(loaded, [before], 8, spec.stop)
        following = spec.stop if not continued.text.strip(" ") else cut(continued.text)[0].text
        assert forced[i] == following


def test_nothing_is_intended_before_the_replaced_unit() -> None:
    spec, _ = read_spec("zoo:secret")
    teacher = Teacher(load_causal_lm("zoo:secret"), spec)
    answer = teacher.answer(spec.sample("probing", 1, seed=0))[0][0]
    prompt = [u.text for u in answer.prompt.units]
    written = [*(u.text for u in Segmenter(spec.values).cut(answer.completion)), spec.stop]
    (forced,) = teacher.intended([Forced((*prompt, *written), len(prompt), len(prompt) + 2)])
    assert forced == [None, None, *written[2:]]
    assert teacher.intended([]) == []
