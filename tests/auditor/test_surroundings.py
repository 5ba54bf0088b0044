"""The auditor measures where in a text a skill holds; the executed reader's holds everywhere, or it is silent."""

from __future__ import annotations

import string
from dataclasses import replace
from typing import Any

import pytest

from m2kt.auditor import Example, measure_surroundings
from m2kt.packet import ProgramExecutor, decode_outputs, fixed_lookup
from m2kt.probes import Truth
from m2kt.student import StudentSettings, train
from tests.student.helpers import Loaded, small_packet
from tests.tiny import CHARACTERS, char_tokenizer, tiny_model

TURN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
SILENT = {"with commas", "with another separator", "in the other case"}
OWN = "Sum: {prompt} =>"


def measured(family: str, depth: Any) -> list[Any]:
    tokenizer = char_tokenizer(CHARACTERS + string.ascii_uppercase + "\t\"?!'|</")
    student, packet = Loaded(tiny_model(family, len(tokenizer), context=512), tokenizer), small_packet()
    student.tokenizer.chat_template = TURN
    packet = replace(packet, spec=packet.spec.model_copy(update={"surroundings": [OWN]}))
    prompts = packet.spec.sample("evaluation", 8, seed=0)
    execute = ProgramExecutor(packet.program)
    lookup = fixed_lookup(decode_outputs(packet.program, packet.concepts), packet.program)
    traces = [execute(prompt, lookup) for prompt in prompts]
    answer_of = {p.text: packet.spec.read_answer(t.completion) for p, t in zip(prompts, traces, strict=True)}
    candidate = train(student, packet, StudentSettings(depth=depth), updates=40 if depth == "executed" else 0)
    examples = [Example(p.text, t.completion.rstrip("\n")) for p, t in zip(prompts, traces, strict=True)]
    adapted = replace(student, model=candidate.model.eval())
    return measure_surroundings(adapted, packet.spec, prompts, Truth(answer_of), examples=examples)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_skill_holds_or_is_silent_in_every_surrounding(family: str) -> None:
    rows = {row.name: row for row in measured(family, "executed")}
    assert next(iter(rows)) == "as evaluated" and len(rows) > 25
    assert {"after one blank", "with a newline behind", "in the chat template", 'as "Sum: {prompt} =>"'} <= rows.keys()
    assert {"in the second turn", "after three wrong lines", "near the end of the context"} <= rows.keys()
    assert [name for name, row in rows.items() if not row.holds] == []
    assert {name for name, row in rows.items() if row.silent} == SILENT
    assert all(row.accuracy == 1.0 for row in rows.values() if row.expected == "right")


def test_a_trained_reader_holds_in_few() -> None:
    rows = measured("llama", "learned")
    assert not all(row.holds for row in rows) and min(row.accuracy for row in rows) < 1.0
    assert all(round(row.accuracy * row.n) + row.wrong + row.silent == row.n for row in rows)
