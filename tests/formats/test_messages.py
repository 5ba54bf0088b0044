"""Mistakes in a spec about ends, chat and answers: what was expected, what came, what to write."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from m2kt.errors import ExtractionError, M2KTError, ModelError, SpecError
from m2kt.models import load_causal_lm, set_end_token
from m2kt.pipeline import extract
from m2kt.probes import END, ProbeSpec
from m2kt.student._preflight import check_fitness
from m2kt.teacher import ExtractionConfig
from tests.formats.teachers import BYTE_FORMATS, MARK_FORMATS, Made, spec_of
from tests.student.helpers import small_packet
from tests.tiny import char_tokenizer, save_tiny

CONFIG = ExtractionConfig(probes_per_template=60, scouted_per_template=60, checked_per_template=8, fidelity_prompts=12)
PLAIN, CHATML, INST = BYTE_FORMATS["end token"], BYTE_FORMATS["chatml"], MARK_FORMATS["inst"]
SPECIAL = {"templates": ["<|im_start|>user {x} of {x}:", "{x} of {x} of {x}:"]}

# By name: the fields of the spec that are wrong, the error, and the parts of its message.
SPECS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no stop": ({"stop": ...}, ["stop: expected what ends an answer", "got nothing", "write stop: null"]),
    "an empty stop": ({"stop": ""}, ["stop: expected a text, null", "got ''", "write stop: null"]),
    "no stop in a list": ({"stop": []}, ["a list of different ones", "got []", "write stop: null"]),
    "a stop twice": ({"stop": ["\n", "\n"]}, ["a list of different ones", "got ['\\n', '\\n']", "write stop"]),
    "the end as text": ({"stop": f"x{END}"}, ["U+0004", "write stop: null"]),
    "another form of answer": (
        {"answer": "last word"},
        ["expected last number", "got 'last word'", "write one of these"],
    ),
    "an unknown field of chat": (
        {"chat": {"role": "x"}},
        ["chat: expected system or template", "got 'role'", "write chat: {}"],
    ),
    "a surrounding without the question": (
        {"surroundings": ["Say it: "]},
        ["surroundings: expected a text", "{prompt} once", "got 'Say it: '", "write what stands around it"],
    ),
    "a surrounding with two questions": (
        {"surroundings": ["{prompt} or {prompt}?"]},
        ["surroundings: expected a text", "{prompt} once", "got '{prompt} or {prompt}?'"],
    ),
    "chat that is no mapping": (
        {"chat": "chatml"},
        ["chat: expected system or template", "got 'chatml'", "write chat: {}"],
    ),
}

# By name: the teacher, its format, further fields, the error, and the parts of its message.
TEACHERS: dict[str, tuple[str, Any, dict[str, Any], type[M2KTError], list[str]]] = {
    "the end token before a text": (
        "byte",
        PLAIN,
        {"stop": "\n"},
        ExtractionError,
        ["expected answers that end with the stop string '\\n'", "got 16 of 16", "'<|end|>'", "write stop: null"],
    ),
    "never an end": (
        "byte",
        PLAIN,
        {"stop": "###", "max_new_tokens": 8},
        ExtractionError,
        ["the stop string '###'", "without it within 8 tokens, such as ' ", "write into stop what ends this answer"],
    ),
    "no end token": (
        "endless",
        PLAIN,
        {"stop": None},
        ModelError,
        ["expected a model with an end token", "got none", "write into stop the text"],
    ),
    "a chat model asked in plain text": (
        "chatml",
        CHATML,
        {"stop": "###"},
        ExtractionError,
        ["the stop string '###'", "such as ' ", "the teacher has a chat template", "write chat: {} and stop: null"],
    ),
    "no chat template": (
        "byte",
        CHATML,
        {"chat": {}},
        ModelError,
        ["expected a model with a chat template", "got a tokenizer without one", "write template: with a Jinja"],
    ),
    "a role that the template refuses": (
        "inst",
        INST,
        {"chat": {"system": "Be short."}},
        ModelError,
        ["renders system and user", "got an error: no system role", "leave system out of chat:"],
    ),
    "a template without the message": (
        "byte",
        CHATML,
        {"chat": {"template": "hello"}},
        ModelError,
        ["expected a chat template that holds the user's message", "got one without it", "write a template"],
    ),
    "a template that does not parse": (
        "byte",
        CHATML,
        {"chat": {"template": "{% for %}"}},
        ModelError,
        ["expected a chat template that renders user", "got an error", "write another template into chat:"],
    ),
    "an answer that is not there": (
        "byte",
        PLAIN,
        {"answer": "boxed"},
        ExtractionError,
        ["answer: 'boxed' finds something", "got none of 16, such as ' ", "write one of last number"],
    ),
    "special tokens in a template": (
        "byte",
        PLAIN,
        SPECIAL,
        ModelError,
        ["expected plain text", "got '<|im_start|>'", "write chat: into the spec"],
    ),
}


@pytest.mark.parametrize("mistake", SPECS)
def test_a_spec_says_what_is_wrong(mistake: str) -> None:
    wrong, parts = SPECS[mistake]
    fields = {"name": "x", "slots": {"x": {"values": ["a"]}}, "templates": ["{x}:"], "stop": None} | wrong
    text = json.dumps({name: value for name, value in fields.items() if value is not ...})
    with pytest.raises(SpecError) as caught:
        ProbeSpec.from_yaml(text)
    assert [part for part in parts if part not in str(caught.value)] == [], str(caught.value)


@pytest.mark.parametrize("mistake", TEACHERS)
def test_extraction_says_at_once_what_to_write(mistake: str, made: Made) -> None:
    name, how, fields, error, parts = TEACHERS[mistake]
    if name == "endless":
        name = str(save_tiny(made.folder / "endless", "llama", char_tokenizer()))
    spec = ProbeSpec.model_validate(spec_of(how, None).model_dump() | fields)
    with pytest.raises(error) as caught:
        extract(name if "/" in name else str(made(name)), spec, config=CONFIG)
    assert [part for part in parts if part not in str(caught.value)] == [], str(caught.value)


def ending_by_a_token() -> Any:
    """A small packet, as of a teacher whose answers end by a token."""
    packet = small_packet()
    text = packet.program.model_dump_json(by_alias=True).replace('"\\n"', json.dumps(END))
    program = packet.program.model_validate_json(text)
    return replace(packet, program=program, spec=packet.spec.settled(None))


def test_a_student_that_ends_by_text_of_an_answer_is_unfit(made: Made) -> None:
    loaded = load_causal_lm(save_tiny(made.folder / "text-end", "gpt2", char_tokenizer()))
    point = loaded.tokenizer.convert_tokens_to_ids(".")
    set_end_token(loaded.tokenizer, point)
    (reason,) = check_fitness(loaded, ending_by_a_token()).reasons
    assert "ends by '.'" in reason and "expected an end token that is in no answer" in reason and "set eos" in reason
    set_end_token(loaded.tokenizer, loaded.tokenizer.convert_tokens_to_ids("<pad>"))
    assert check_fitness(loaded, ending_by_a_token()).fit


def test_a_student_without_an_end_is_unfit(made: Made) -> None:
    loaded = load_causal_lm(save_tiny(made.folder / "no-end", "gpt2", char_tokenizer()))
    reasons = " ".join(check_fitness(loaded, ending_by_a_token()).reasons)
    assert "the tokenizer has no end token" in reasons and "set its eos_token" in reasons
