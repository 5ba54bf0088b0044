"""Mistakes in a spec are named: mistyped fields, values that YAML reads as something else, unused slots, no truth."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import m2kt
from m2kt.errors import SpecError
from m2kt.packet import TrustPolicy
from m2kt.probes import ProbeSpec, check_usable

FIELDS = {"name": "t", "slots": {"x": {"values": ["a", "b"]}}, "templates": ["{x} {x}:"], "stop": "\n"}
LONG = sorted(name for name in ProbeSpec.model_fields if len(name) > 3)


def refused(change: dict[str, object]) -> str:
    with pytest.raises(SpecError) as caught:
        ProbeSpec.from_yaml(yaml.safe_dump(FIELDS | change), source="skill.yaml")
    return str(caught.value)


@given(st.sampled_from(LONG), st.data())
def test_a_field_with_a_letter_wrong_is_told_what_was_meant(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(name) - 1))
    mistyped = data.draw(st.sampled_from([name[:at] + "q" + name[at:], name[:at] + "q" + name[at + 1 :]]))
    message = refused({mistyped: None})
    assert f"{mistyped}: there is no such field; did you mean " in message and name in message


@pytest.mark.parametrize("name", ["slots", "templates", "stop", "name"])
def test_a_required_field_with_another_name_is_one_mistake(name: str) -> None:
    fields: dict[str, object] = {key: value for key, value in FIELDS.items() if key != name}
    with pytest.raises(SpecError) as caught:
        ProbeSpec.from_yaml(yaml.safe_dump(fields | {f"{name}q": FIELDS[name]}))
    assert f"{name}q: there is no such field; did you mean {name}" in str(caught.value)
    assert str(caught.value).count("; ") == 1  # and not that the field is missing, too


def test_fields_within_fields_and_of_other_files_are_proposed_too(tmp_path: Path) -> None:
    assert "did you mean values?" in refused({"slots": {"x": {"value": ["a"]}}})
    assert "did you mean weight?" in refused({"templates": [{"text": "{x}:", "wieght": 2}]})
    assert "did you mean question?" in refused({"examples": [{"qestion": "a:", "answer": "b"}]})
    (tmp_path / "c.yaml").write_text("evaluation_prompt: 9\n")
    with pytest.raises(SpecError, match=r"did you mean evaluation_prompts"):
        m2kt.IngestConfig.from_file(tmp_path / "c.yaml")
    (tmp_path / "t.yaml").write_text("kyes: []\nthresholds: {teacher: 1}\n")
    with pytest.raises(SpecError, match=r"kyes: there is no such field; did you mean keys\?$"):
        TrustPolicy.from_file(tmp_path / "t.yaml")


def test_what_resembles_no_field_gets_no_proposal() -> None:
    assert "did you mean" not in refused({"colour": "red"})


@pytest.mark.parametrize(
    ("value", "advice"),
    [("1", 'the number 1; quote it: "1"'), ("2.5", 'quote it: "2.5"'), ("no", 'truth value false; quote it, as "yes"')],
)
def test_values_that_yaml_reads_as_something_else_are_to_be_quoted(value: str, advice: str) -> None:
    with pytest.raises(SpecError) as caught:
        ProbeSpec.from_yaml(yaml.safe_dump(FIELDS).replace("- b\n", f"- {value}\n"))
    assert "slots.x.values.1: expected text" in str(caught.value) and advice in str(caught.value)


def test_a_slot_that_nothing_uses_is_named() -> None:
    spec = ProbeSpec.model_validate(FIELDS | {"slots": {"x": {"values": ["a"]}, "town": {"values": ["Rome"]}}})
    with pytest.raises(SpecError, match=r"the slot 'town' in none; write \{town\}"):
        check_usable(spec)
    check_usable(spec.model_copy(update={"held_out": ["from {town}:"]}))


def test_a_truth_without_its_file_is_told_before_any_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "truth.py").write_text("def answer(prompt):\n    return None\n")
    path = tmp_path / "skill.yaml"
    for truth, hint in (("trth.py:answer", r"did you mean truth\.py\?"), ("none.jsonl", "relative to the spec")):
        path.write_text(yaml.safe_dump(FIELDS | {"truth": truth}))
        with pytest.raises(SpecError, match=f"truth: expected a file at .*{hint}"):
            m2kt.extract("nowhere", path, tmp_path / "out")
    path.write_text(yaml.safe_dump(FIELDS | {"truth": "truth.py:answer"}))
    assert m2kt.check_probes(path).truth
