"""Explanations: what is named for a token is what it depends on, at two depths and in models of three kinds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from m2kt.auditor import measure_causes
from m2kt.auditor._causes import _marks, _units
from m2kt.errors import CompatibilityError
from m2kt.models import answer_ends, encode_prompt
from m2kt.settings import StudentSettings
from m2kt.student import ExplainedAnswer, explain_answer, train
from m2kt.student.cal import cal_model
from tests.student.helpers import WORDS, loaded, perturbed, small_packet


@pytest.fixture(scope="module", params=["gpt2", "llama", "gru"])
def student(request: Any) -> Any:
    """A student with the skill, and its packet."""
    bare, packet = loaded(request.param), small_packet(WORDS)
    candidate = train(bare, packet, StudentSettings(), updates=40)
    return replace(bare, model=candidate.model.eval().requires_grad_(False)), packet


def explained(model: Any, prompt: str, **options: Any) -> ExplainedAnswer:
    ends = answer_ends(model, "\n")
    options = {"max_new_tokens": 24, **options}
    return explain_answer(model, encode_prompt(model.tokenizer, prompt), ends=ends, **options)


@pytest.mark.parametrize("before", ["", "an earlier line.\n", "say it: "])
def test_every_token_has_its_source(student: Any, before: str) -> None:
    model, packet = student
    answer = explained(model, f"{before}bee cow:")
    row = packet.program.rules[0].rows.index((1, 3))
    said = packet.program.symbols[packet.outputs[row]]
    assert answer.answer == f" bee cow {said}.\n" and answer.text == f"{before}bee cow:" + answer.answer
    assert "".join(token.text for token in answer.tokens) == answer.answer
    units: dict[int | None, Any] = {}
    for token in answer.tokens:
        assert answer.text[token.start : token.end] == token.text
        if token.text != " ":
            units.setdefault(token.cause.unit, token.cause)
    assert [(s.kind, s.writes) for s in units.values()] == [
        ("copy", "bee"),
        ("copy", "cow"),
        ("concept", said),
        ("literal", "."),
        ("literal", "\n"),
    ]
    concept = units[2]
    assert (concept.content, concept.rule, concept.arguments) == (row, "op", ("bee", "cow"))
    question, written = len(before), answer.start + 1
    places = {0: [question], 1: [question + 4], 2: [written, written + 4]}
    assert {unit: [read.start for read in units[unit].reads] for unit in places} == places
    for cause in units.values():
        assert all(answer.text[read.start : read.end] == read.text for read in cause.reads)


def test_the_named_concept_is_the_one_on_which_the_token_depends(student: Any) -> None:
    model, packet = student
    prompts = [p for split in ("probing", "rehearsal", "evaluation") for p in packet.spec.sample(split, 16, seed=0)]
    concepts, copies = measure_causes(model, packet.spec, prompts, kinds=("concept", "copy"))
    assert concepts.answers == concepts.exchanged == concepts.units == 16 and copies.exchanged == 32
    assert concepts.exchange_share == 1.0 and copies.exchange_share == 1.0
    assert concepts.removal_share == 1.0


def test_a_wrong_name_is_found_out(student: Any) -> None:
    model, _ = student
    answer = explained(model, "bee cow:")
    (unit,) = _units(answer, "concept")
    assert _marks(answer, unit)["exchange_alone"]
    for other in answer.next_instead:
        if other != unit.content:
            assert not _marks(answer, replace(unit, content=other))["exchange_alone"]


def test_what_is_exchanged_writes_what_the_other_row_says(student: Any) -> None:
    model, _ = student
    answer = explained(model, "bee cow:")
    tokens = [token for token in answer.tokens if token.cause.kind == "concept"]
    first = tokens[0]
    assert first.decides and first.instead != first.text
    assert all(token.probability > token.base_probability for token in tokens)
    push = first.base_push + first.reader_push
    assert push > first.base_push and set(answer.without) == set(answer.next_without)


def test_text_that_is_no_question_is_the_students_own(student: Any) -> None:
    model, _ = student
    answer = explained(model, "The ant is a bee.", max_new_tokens=6)
    assert len(answer.tokens) == 6 and not answer.without
    for token in answer.tokens:
        assert token.cause.kind == "base" and token.changed is None and token.text == token.base_text
        assert token.reader_push == 0.0 and token.probability == token.base_probability
    assert answer.base_answer.startswith(answer.answer)


@torch.no_grad()
def test_rows_of_a_batch_lack_their_own_contents(student: Any) -> None:
    model, packet = student
    row = packet.program.rules[0].rows.index((1, 3))
    ids = torch.tensor([encode_prompt(model.tokenizer, "bee cow: bee cow")] * 2)
    tuner = cal_model(model.model)
    whole = model.model(input_ids=ids).logits
    with tuner.observed(instead=[{}, {row: -1}]):
        kept, lacking = model.model(input_ids=ids).logits
    assert torch.equal(kept, whole[0]) and not torch.equal(lacking[-1], whole[1, -1])
    assert torch.equal(model.model(input_ids=ids).logits, whole)
    with tuner.observed(instead=[{}, {}, {}]), pytest.raises(CompatibilityError, match="one for each of 2 rows, got 3"):
        model.model(input_ids=ids)


def test_the_learned_reader_names_what_it_chose() -> None:
    bare, packet = loaded("gpt2"), small_packet(WORDS)
    settings = StudentSettings.model_validate({"depth": "learned"})
    model = train(bare, packet, settings, updates=2).model
    adapted = replace(bare, model=perturbed(model).eval().requires_grad_(False))
    answer = explained(adapted, "bee cow:")
    named = [token for token in answer.tokens if token.cause.kind != "base"]
    assert named and all(token.without is not None for token in named)


def test_a_reader_that_names_nothing_is_refused() -> None:
    bare, packet = loaded("gpt2"), small_packet(WORDS)
    settings = StudentSettings.model_validate({"depth": "learned", "reader": {"kind": "flat"}})
    adapted = replace(bare, model=train(bare, packet, settings, updates=0).model.eval())
    with pytest.raises(CompatibilityError, match="names no step; ingest the packet with --depth executed"):
        explained(adapted, "bee cow:")
