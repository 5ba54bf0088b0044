"""Probe specs: validation, splits that cannot overlap, skewed and held-out sampling, answer reading."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from m2kt.errors import SpecError
from m2kt.probes import ProbeSpec, load_truth

SPEC = """
name: sums
slots: {d: {values: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]}, town: {values: [Rome, New York]}}
templates: ["{d}{d}+{d}{d}:", {text: "from {x=town} to {x=town} {{{d}}}?", weight: 3}]
held_out: ["{d}{d}{d}+{d}{d}{d}:"]
stop: "\\n"
answer: "> ?(.+)\\\\."
"""


def spec() -> ProbeSpec:
    return ProbeSpec.from_yaml(SPEC)


def test_splits_are_disjoint_and_together_everything() -> None:
    seen = {
        s: {p.text for p in spec().sample(s, 20_000, seed=1)} for s in ("probing", "rehearsal", "evaluation")
    }
    assert not seen["probing"] & seen["rehearsal"]
    assert not seen["probing"] & seen["evaluation"]
    assert not seen["rehearsal"] & seen["evaluation"]
    assert (
        sum(map(len, seen.values())) == 10_000 + 20
    )  # every question of both shapes is in exactly one split


def test_sampling_is_seeded_distinct_and_weighted() -> None:
    a, b = spec().sample("probing", 100, seed=3), spec().sample("probing", 100, seed=3)
    assert a == b
    assert len({p.text for p in a}) == 100
    assert [p.text for p in a] != [p.text for p in spec().sample("probing", 100, seed=4)]
    # the second shape asks only 20 questions: what it cannot supply goes to the first
    assert sum(p.template == 1 for p in spec().sample("probing", 100, seed=3)) <= 20


def test_held_out_shapes_belong_to_evaluation_only() -> None:
    prompts = spec().sample("evaluation", 30, seed=0, held_out=True)
    assert len(prompts) == 30 and all(p.held_out and len(p.text) == 8 for p in prompts)
    with pytest.raises(SpecError, match="held-out"):
        spec().sample("probing", 1, seed=0, held_out=True)


def test_named_slots_take_one_value_and_braces_can_be_written() -> None:
    prompt = next(p for p in spec().sample("probing", 100, seed=0) if p.template == 1)
    town = prompt.units[1].symbol
    assert town in ("Rome", "New York")
    assert prompt.text.startswith(f"from {town} to {town} {{")
    assert "".join(u.text for u in prompt.units) == prompt.text
    assert prompt.units[1].text == " " + town and prompt.units[1].lead == " "


def test_skewed_prompts_show_coincidences() -> None:
    def distinct_digits(skewed: bool) -> float:
        prompts = spec().sample("probing", 300, seed=0, templates=[0], skewed=skewed)
        return sum(len({u.symbol for u in p.units if u.symbol}) for p in prompts) / len(prompts)

    assert distinct_digits(True) < 2.01 < 3 < distinct_digits(False)


def test_answer_is_read_before_the_stop_string() -> None:
    assert spec().read_answer("7+5=12> 12.\n> 99.") == "12"
    assert spec().read_answer("no answer here") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("templates: ['{e}:']", "slot 'e' is not defined"),
        ("templates: ['plain']", "has no slot"),
        ("templates: ['{d}:', '{d}:']", "listed twice"),
        ("templates: ['{d']", "single brace"),
        ("answer: '('", "not a regular expression"),
        ("answer: 'abc'", "needs one group"),
        ("stop: ''", "stop"),
        ("unknown: 1", "unknown"),
        ("slots: {d: {values: [a, a]}}", "distinct"),
        ("slots: {d: {values: [' a']}}", "outer spaces"),
    ],
)
def test_bad_specs_are_refused_with_the_field(change: str, message: str) -> None:
    data = yaml.safe_load(SPEC) | yaml.safe_load(change)
    with pytest.raises(SpecError, match=message):
        ProbeSpec.from_yaml(yaml.safe_dump(data))


def test_yaml_round_trip_and_digest_ignore_truth_and_prose() -> None:
    one = spec()
    again = ProbeSpec.from_yaml(one.to_yaml())
    assert again == one
    assert one.model_copy(update={"truth": "x.jsonl", "description": "hello"}).digest == one.digest
    assert one.model_copy(update={"stop": ";"}).digest != one.digest
    assert one.public().truth is None


def test_json_schema_is_checked_in_and_accepts_the_zoo() -> None:
    schema = ProbeSpec.model_json_schema()
    root = Path(__file__).parents[2]
    assert json.loads((root / "docs" / "probe-spec.schema.json").read_text(encoding="utf-8")) == schema, (
        "the schema has changed: write ProbeSpec.model_json_schema() to docs/probe-spec.schema.json"
    )
    jsonschema = pytest.importorskip("jsonschema")
    for path in (root / "zoo").glob("*/probes.yaml"):
        jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(SPEC) | {"stop": 3}, schema)


def test_truth_from_jsonl_and_from_python(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"prompt": "12+34:", "answer": "46"}\n', encoding="utf-8")
    (tmp_path / "t.py").write_text("def f(prompt):\n    return prompt[:2]\n", encoding="utf-8")
    from_lines = load_truth(spec().model_copy(update={"truth": "t.jsonl"}), tmp_path)
    from_code = load_truth(spec().model_copy(update={"truth": "t.py:f"}), tmp_path)
    assert from_lines is not None and from_lines("12+34:") == "46" and from_lines("1") is None
    assert from_code is not None and from_code("12+34:") == "12"
    assert load_truth(spec(), tmp_path) is None
    (tmp_path / "bad.jsonl").write_text('{"prompt": 1}\n', encoding="utf-8")
    with pytest.raises(SpecError, match=r"bad\.jsonl:1"):
        load_truth(spec().model_copy(update={"truth": "bad.jsonl"}), tmp_path)
    with pytest.raises(SpecError, match="no function"):
        load_truth(spec().model_copy(update={"truth": "t.py:g"}), tmp_path)


@given(st.lists(st.text(alphabet="ab01 {}=:", min_size=1, max_size=12), min_size=1, max_size=3))
def test_any_template_text_is_parsed_or_refused(texts: list[str]) -> None:
    data = yaml.safe_load(SPEC) | {"templates": texts}
    try:
        parsed = ProbeSpec.from_yaml(yaml.safe_dump(data))
    except SpecError:
        return
    for prompt in parsed.sample("probing", 5, seed=0):
        assert "".join(u.text for u in prompt.units) == prompt.text
