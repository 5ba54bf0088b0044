"""Answers that end by a token, by a special token's text, by any of several stops; and answers of several lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from m2kt.auditor import ask
from m2kt.errors import ModelError, SpecError
from m2kt.models import (
    LoadedModel,
    answer_ends,
    encode_prompt,
    encode_units,
    end_token,
    generate_greedy,
    load_causal_lm,
)
from m2kt.packet import Packet
from m2kt.probes import END, ProbeSpec
from m2kt.student import StudentSettings, train
from m2kt.student._preflight import check_fitness
from tests.formats.teachers import BYTE_FORMATS, CONFIG, MARK_FORMATS, Format, Made, byte_tokenizer, cases, spec_of
from tests.tiny import char_tokenizer

# By name: the teacher, its format, the stop that the spec names, the program's, and a student. The zoo's student ends
# by a newline: the answer's lines must not end it.
CASES: dict[str, tuple[str, Format, Any, str, str]] = {
    "the first of several that is used": ("byte", BYTE_FORMATS["end token"], ["###", None], END, "own-gpt2"),
    "a special token by its text": ("byte", BYTE_FORMATS["lines"], "<|end|>", END, "own-qwen3"),
    "two newlines": ("byte", BYTE_FORMATS["paragraph"], [None, "\n\n"], "\n\n", "zoo:pico-llama"),
    "SentencePiece": ("mark", MARK_FORMATS["end token"], "</s>", END, "own-gpt2"),
}


@dataclass(frozen=True)
class Case:
    """A packet, the spec that the user wrote, the teacher, and a student."""

    packet: Packet
    spec: ProbeSpec
    teacher: LoadedModel
    student: LoadedModel


@pytest.fixture(scope="module", params=cases(CASES, slow=["a special token by its text"]))
def case(request: Any, made: Made) -> Case:
    from m2kt.pipeline import extract

    teacher, how, stop, end, student = CASES[request.param]
    spec = spec_of(how, stop)
    packet = extract(str(made(teacher)), spec, config=CONFIG).packet
    assert packet.program.stop == end and packet.manifest.fidelity.agreement >= 0.98
    loaded = load_causal_lm(student if student.startswith("zoo:") else made(student))
    return Case(packet, spec, load_causal_lm(made(teacher)), loaded)


def test_a_packet_names_no_models_token(case: Case, tmp_path: Path) -> None:
    case.packet.save(tmp_path / "packet")
    again = Packet.load(tmp_path / "packet")
    assert again.program == case.packet.program and again.spec.stop == (None if again.program.stop == END else "\n\n")
    text = "".join((tmp_path / "packet" / part).read_text() for part in ("program.json", "probes.yaml", "README.md"))
    assert not any(name in text for name in case.teacher.tokenizer.all_special_tokens)


def test_a_student_ends_in_its_own_way(case: Case) -> None:
    """At the default depth every held-out answer is the teacher's and comes to its end."""
    packet, spec, teacher, loaded = case.packet, case.spec, case.teacher, case.student
    assert check_fitness(loaded, packet).fit
    loaded.model = train(loaded, packet, StudentSettings(), updates=0).model.eval()
    prompts = [p.text for p in spec.sample("evaluation", 60, seed=3)]
    ids = [encode_prompt(teacher.tokenizer, prompt) for prompt in prompts]
    said = generate_greedy(teacher, ids, 64, answer_ends(teacher, spec.stops))
    taught = [spec.completion_text(completion.text) for completion in said]
    assert [spec.completion_text(text) for text in ask(loaded, spec, prompts)] == taught
    ids = [encode_prompt(loaded.tokenizer, prompt) for prompt in prompts]
    written = generate_greedy(loaded, ids, 160, packet.program.stop)
    assert all(completion.stopped for completion in written)
    if packet.program.stop == END:
        assert {completion.ids[-1] for completion in written} == {end_token(loaded.tokenizer)}


def test_the_end_is_no_text() -> None:
    tokenizer = byte_tokenizer()
    encoded = encode_units(tokenizer, ["do:", " a", END], prompt_boundary=1)
    assert encoded.ids[-1] == end_token(tokenizer) == tokenizer.eos_token_id and encoded.unit_of_token[-1] == 2
    assert encode_units(tokenizer, ["do:", " a" + END], prompt_boundary=1).ids == encoded.ids
    with pytest.raises(ModelError, match="no end token"):
        encode_units(char_tokenizer(), ["do:", " a", END])


def test_a_spec_says_what_ends_an_answer() -> None:
    spec = ProbeSpec.model_validate(
        {"name": "x", "slots": {"x": {"values": ["a"]}}, "templates": ["{x}:"], "stop": None}
    )
    assert (spec.stops, spec.end) == ((None,), END) and ProbeSpec.from_yaml(spec.to_yaml()) == spec
    several = spec.model_copy(update={"stop": ["<|end|>", ".", None]})
    assert several.completion_text(f"a{END}") == several.completion_text("a. b. c") == "a"
    for wrong in ("", [], ["\n", "\n"], ["\n", ""], f"x{END}"):
        with pytest.raises(SpecError, match="stop"):
            ProbeSpec.from_yaml(spec.to_yaml().replace("stop: null", f"stop: {json.dumps(wrong)}"))
