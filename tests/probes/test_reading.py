"""Reading an answer by a form: numbers, lines, boxes, JSON."""

from __future__ import annotations

import pytest

from m2kt.errors import SpecError
from m2kt.probes import END, ProbeSpec
from tests.packet.work import MOST_CALLS, count_calls

SPEC = "name: x\nslots: {x: {values: [a]}}\ntemplates: ['{x}:']\nstop: null\nanswer: "
READ = [
    ("last number", "so 12 and -1,234.50.", "-1234.50"),
    ("last number", "3-4=x1", "4"),
    ("last number", "+7 then none", "7"),
    ("last number", "no number, x1 or 1x", None),
    ("last line", " a\n so b. \n\n", "so b."),
    ("last line", " \n", None),
    ("boxed", r"first \boxed{1}, then \boxed{\frac{1}{2}} and {3}", r"\frac{1}{2}"),
    ("boxed", r"\boxed{7", None),
    ("boxed", "7", None),
    ("json out", 'so {"out": "b"}.', "b"),
    ("json steps[-1].c", '{"steps": [{"c": 1}, {"c": 2.50}]}', "2.50"),
    ("json out", '{"out": 1}, {"out": true}, {"other": 3}', "true"),
    ("json out", '{"out": null} {"out": {"a": 1}}', "null"),
    ("json [1]", '["a","b"]', "b"),
    ("json out", '{"out": "b"', None),
    ("json out[0]", '{"out": "b"}', None),
    ("null", "  all of it ", "all of it"),
    (r"'> (.+)\.'", " > b.", "b"),
]


@pytest.mark.parametrize(("answer", "text", "read"), READ)
def test_an_answer_is_read(answer: str, text: str, read: str | None) -> None:
    spec = ProbeSpec.from_yaml(SPEC + answer)
    assert spec.read_answer(text) == spec.read_answer(text + END + "junk 9 {") == read
    assert ProbeSpec.from_yaml(spec.to_yaml()) == spec


@pytest.mark.parametrize("answer", ["last word", "abc", "json a b", "json [x]", "json a(b", "number"])
def test_another_form_is_refused_with_those_there_are(answer: str) -> None:
    with pytest.raises(SpecError, match=r"answer.*(last number, last line, boxed, json PATH|not a regular)"):
        ProbeSpec.from_yaml(SPEC + f'"{answer}"')


@pytest.mark.parametrize("text", ["[" * 9000, '{"a":' * 2000, "[1," * 2000, '["' * 4000, r"\boxed{" * 2000])
def test_hostile_text_is_read_in_bounded_time(text: str) -> None:
    for answer in ("json a", "boxed", "last number", "last line"):
        spec = ProbeSpec.from_yaml(SPEC + answer)
        assert count_calls(lambda spec=spec: spec.read_answer(text)) < MOST_CALLS
