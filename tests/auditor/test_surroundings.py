"""The auditor measures where in a text a skill holds; the executed reader's holds everywhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from m2kt.auditor import measure_surroundings
from m2kt.packet import ProgramExecutor, decode_outputs, fixed_lookup
from m2kt.probes import Truth
from m2kt.student import StudentSettings, train
from tests.student.helpers import loaded, small_packet

TURN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("depth", ["executed", "learned"])
def test_every_surrounding_is_measured(family: str, depth: Any) -> None:
    student, packet = loaded(family), small_packet()
    student.tokenizer.chat_template = TURN
    prompts = packet.spec.sample("evaluation", 8, seed=0)
    execute = ProgramExecutor(packet.program)
    lookup = fixed_lookup(decode_outputs(packet.program, packet.concepts), packet.program)
    traces = [execute(prompt, lookup) for prompt in prompts]
    answer_of = {p.text: packet.spec.read_answer(t.completion) for p, t in zip(prompts, traces, strict=True)}
    candidate = train(student, packet, StudentSettings(depth=depth), updates=40 if depth == "executed" else 0)
    adapted = replace(student, model=candidate.model.eval())
    rows = measure_surroundings(adapted, packet.spec, prompts, Truth(answer_of), example=traces[0].text)
    assert rows[0].name == "as evaluated" and {"after one blank", "in the chat template"} <= {row.name for row in rows}
    assert {row.n for row in rows} == {len(prompts)}
    if depth == "executed":
        assert {row.accuracy for row in rows} == {1.0}, rows
    else:
        assert min(row.accuracy for row in rows) < 1.0
