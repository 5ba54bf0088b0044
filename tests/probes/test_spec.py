"""Probe specs: validation, splits that cannot overlap, skewed and held-out sampling, answer reading."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from m2kt.errors import SpecError
from m2kt.probes import ProbeSpec, Template, load_truth

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
    seen = {s: {p.text for p in spec().sample(s, 20_000, seed=1)} for s in ("probing", "rehearsal", "evaluation")}
    assert not seen["probing"] & seen["rehearsal"]
    assert not seen["probing"] & seen["evaluation"]
    assert not seen["rehearsal"] & seen["evaluation"]
    assert sum(map(len, seen.values())) == 10_000 + 20  # every question of both shapes is in exactly one split


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
        ("answer: 'abc'", "regular expression with a group"),
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


def test_yaml_round_trip_and_digest_ignore_truth_and_description() -> None:
    one = spec()
    again = ProbeSpec.from_yaml(one.to_yaml())
    assert again == one
    assert one.model_copy(update={"truth": "x.jsonl", "description": "hello"}).digest == one.digest
    assert one.model_copy(update={"stop": ";"}).digest != one.digest
    assert one.public().truth is None


def test_json_schema_is_checked_in_and_accepts_the_zoo() -> None:
    schema = ProbeSpec.model_json_schema()
    root = Path(__file__).parents[2]
    assert json.loads((root / "docs" / "schemas" / "probe-spec.schema.json").read_text(encoding="utf-8")) == schema, (
        "the schema has changed: write ProbeSpec.model_json_schema() to docs/schemas/probe-spec.schema.json"
    )
    jsonschema = pytest.importorskip("jsonschema")
    for path in (root / "packages" / "m2kt-zoo" / "src" / "m2kt_zoo").glob("*/probes.yaml"):
        jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(SPEC) | {"stop": 3}, schema)


def test_truth_from_jsonl_and_from_python(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"prompt": "12+34:", "answer": "46"}\n', encoding="utf-8")
    (tmp_path / "t.py").write_text("def f(prompt):\n    return prompt[:2]\n", encoding="utf-8")
    from_lines = load_truth(spec().model_copy(update={"truth": "t.jsonl"}), tmp_path)
    from_code = load_truth(spec().model_copy(update={"truth": "t.py:f"}), tmp_path)
    assert from_lines is not None and from_lines.expected("12+34:") == "46" and from_lines.expected("1") is None
    assert from_lines.problems == ("12+34:",)
    assert [from_lines.judge("12+34:", a) for a in ("46", "046", None)] == [True, False, False]
    assert from_lines.judge("1", "46") is None
    assert from_code is not None and from_code.expected("12+34:") == "12" and from_code.problems is None
    assert load_truth(spec(), tmp_path) is None
    (tmp_path / "bad.jsonl").write_text('{"prompt": 1}\n', encoding="utf-8")
    with pytest.raises(SpecError, match=r"bad\.jsonl:1"):
        load_truth(spec().model_copy(update={"truth": "bad.jsonl"}), tmp_path)
    with pytest.raises(SpecError, match="no function"):
        load_truth(spec().model_copy(update={"truth": "t.py:g"}), tmp_path)


CHAIN = """
name: signed
slots: {d: {values: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]}, o: {values: ["+", "-"]}}
templates: ["{d}{o}{d}:", "{d}{o}{d}{o}{d}:"]
held_out: ["{d}{o}{d}{o}{d}{o}{d}:"]
stop: "\\n"
truth: {reasoning_gym: chain_sum, min_terms: 2, max_terms: 4, max_digits: 1, size: 3000, via: "t.py:prompt"}
"""
VIA = """
def prompt(entry):
    return entry["metadata"]["expression"].replace(" ", "") + ":"
"""


def test_a_generated_dataset_defines_problems_and_scores(tmp_path: Path) -> None:
    (tmp_path / "t.py").write_text(VIA, encoding="utf-8")
    chain = ProbeSpec.from_yaml(CHAIN)
    assert ProbeSpec.from_yaml(chain.to_yaml()) == chain and chain.public().truth is None
    truth, again = (load_truth(chain, tmp_path) for _ in "ab")
    assert truth is not None and again is not None and truth.problems == again.problems  # seeded
    prompts = chain.sample("evaluation", 150, seed=0, among=truth.problems)
    assert len(prompts) == 150 == len({p.text for p in prompts}) and {p.template for p in prompts} == {0, 1}
    assert {p.text for p in prompts} <= set(truth.problems or ())
    assert all(chain.split_of(p.text) == "evaluation" for p in prompts)
    assert chain.sample("evaluation", 150, seed=0) != prompts
    longer = chain.sample("evaluation", 50, seed=0, held_out=True, among=truth.problems)
    assert len(longer) == 50 and all(p.held_out and len(p.text) == 8 for p in longer)
    for prompt in (*prompts, *longer):
        assert "".join(u.text for u in prompt.units) == prompt.text
        value = sum(int(term) for term in re.findall(r"[+-]?\d", prompt.text))
        assert truth.expected(prompt.text) == str(value)
        assert truth.judge(prompt.text, f"{value:+03d}") and truth.judge(prompt.text, f"{value}.0")
        assert truth.judge(prompt.text, str(value + 1)) is truth.judge(prompt.text, None) is False
        assert truth.judge(prompt.text, f"{value} or so") is False  # the scorer gives it a part of the points
    assert truth.judge("12+3:", "15") is None and truth.expected("12+3:") is None


@pytest.mark.parametrize(
    ("truth", "code", "message"),
    [
        ({"max_terms": 1}, VIA, "refuses"),
        ({"reasoning_gym": "no_such"}, VIA, "refuses"),
        ({"no_such": 1}, VIA, "refuses"),
        ({}, "def prompt(entry):\n    return None\n", "no prompt for any of 50"),
        ({}, "def prompt(entry):\n    return entry['nothing']\n", "fails on 'State the final"),
        ({}, "def prompt(entry):\n    return '1+1:'\n", "answers differ"),
        ({"via": "t.py:other"}, VIA, "no function 'other'"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    tmp_path: Path, truth: dict[str, object], code: str, message: str
) -> None:
    (tmp_path / "t.py").write_text(code, encoding="utf-8")
    data = yaml.safe_load(CHAIN)
    data["truth"] |= {"size": 50, **truth}
    with pytest.raises(SpecError, match=message):
        load_truth(ProbeSpec.model_validate(data), tmp_path)
    with pytest.raises(SpecError, match="via"):
        ProbeSpec.from_yaml(yaml.safe_dump(data | {"truth": {"reasoning_gym": "chain_sum", "via": "t.py"}}))


def test_without_reasoning_gym_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(SpecError, match=r"chain_sum.*m2kt\[bench\]"):
        load_truth(ProbeSpec.from_yaml(CHAIN), tmp_path)


@given(st.lists(st.text(alphabet="ab01 {}=:", min_size=1, max_size=12), min_size=1, max_size=3))
def test_any_template_text_is_parsed_or_refused(texts: list[str]) -> None:
    data = yaml.safe_load(SPEC) | {"templates": texts}
    try:
        parsed = ProbeSpec.from_yaml(yaml.safe_dump(data))
    except SpecError:
        return
    for prompt in parsed.sample("probing", 5, seed=0):
        assert "".join(u.text for u in prompt.units) == prompt.text
        shape = Template(
            parsed.template_text(prompt.template), {name: slot.values for name, slot in parsed.slots.items()}
        )
        read = shape.read(prompt.text, template=prompt.template, held_out=False)
        assert read is not None and read.text == prompt.text


SPEC_HEAD = 'name: x\nslots: {x: {values: [a, b]}}\ntemplates: ["{x} {x}:"]\nstop: ";"\n'


def _merged(depth: int) -> str:
    """Nine merges of nine merges: 3 * 9^depth values."""
    lines = ["m0: &m0 {a: 1, b: 1, c: 1}"]
    lines += [f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}]}}" for i in range(1, depth + 1)]
    return "\n".join(lines) + "\n"


HOSTILE_YAML = {
    "merge keys": _merged(8),
    "aliases": "description: [&a [x], *a, *a]\n",
    "brackets": "description: " + "[" * 100_000 + "\n",
    "braces": "description: " + "{a: " * 100_000 + "\n",
    "a doubled key": 'stop: "|"\n',
    "a doubled key deeper": "slots2: {a: 1, a: 2}\n",
    "a tag": "description: !!python/name:os.system x\n",
    "two documents": "---\nname: y\n",
    "many values": "description: [" + "x," * 300_000 + "]\n",
}
READERS = ["spec", "policy", "ingest", "settings", "audit"]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("hostile", HOSTILE_YAML)
def test_hostile_yaml_of_local_files_is_refused_at_once(hostile: str, reader: str, tmp_path: Path) -> None:
    from m2kt.packet import TrustPolicy
    from m2kt.pipeline import IngestConfig
    from m2kt.pipeline._audit import audit_texts
    from m2kt.settings import StudentSettings

    path = tmp_path / "file.yaml"
    path.write_text(SPEC_HEAD + HOSTILE_YAML[hostile], encoding="utf-8")
    read = {
        "spec": lambda: ProbeSpec.from_file(path),
        "policy": lambda: TrustPolicy.from_file(path),
        "ingest": lambda: IngestConfig.from_file(path),
        "settings": lambda: StudentSettings.from_file(path),
        "audit": lambda: audit_texts([], config=path),
    }[reader]
    with pytest.raises(SpecError, match=r"anchor|nested|doubled|tag|document|no plain text") as raised:
        read()
    assert len(str(raised.value)) < 600


def _worded(**fields: object) -> ProbeSpec:
    text = 'name: minus\nslots: {n: {values: ["1", "2", "34"]}}\ntemplates: ["{a=n} - {b=n}:"]\nstop: "\\n"\n'
    return ProbeSpec.model_validate({**yaml.safe_load(text), **fields})


def test_phrasings_put_a_prompt_in_other_words() -> None:
    spec = _worded(phrasings=["What is {a=n} minus {b=n}?", "Subtract {b=n} from {a=n}."])
    prompt = next(p for p in spec.sample("evaluation", 9, seed=0) if p.units[0].symbol != p.units[2].symbol)
    a, b = prompt.units[0].symbol, prompt.units[2].symbol
    assert [spec.put(prompt, phrasing) for phrasing in spec.phrased()] == [
        f"What is {a} minus {b}?",
        f"Subtract {b} from {a}.",
    ]
    assert spec.digest == _worded().digest and ProbeSpec.from_yaml(spec.to_yaml()) == spec


def test_holes_side_by_side_are_one_group_of_any_length() -> None:
    spec = ProbeSpec.from_yaml(SPEC + 'phrasings: ["Add {d} and {d}."]\n')
    sums = [p for p in spec.sample("evaluation", 40, seed=0) if "+" in p.text]
    (phrasing,) = spec.phrased()
    assert {spec.put(p, phrasing) for p in sums} == {"Add {} and {}.".format(*p.text[:-1].split("+")) for p in sums}
    longer = spec.sample("evaluation", 1, seed=0, held_out=True)[0]
    assert spec.put(longer, phrasing) == "Add {} and {}.".format(*longer.text[:-1].split("+"))


def test_some_phrasings_are_held_out() -> None:
    listed = [f"{word} {{a=n}} and {{b=n}}." for word in ("Take", "Use", "Read", "Give", "Keep", "Move", "Hold", "See")]
    spec = _worded(phrasings=listed)
    assert len(spec.listed_phrasings) == 6 and {*spec.listed_phrasings, *spec.unlisted_phrasings} == {*listed}
    spec = _worded(phrasings=listed, held_out_phrasings=["And {a=n} with {b=n}?"])
    assert spec.listed_phrasings == listed and len(spec.phrased(held_out=True)) == 1


@pytest.mark.parametrize(
    ("phrasing", "message"),
    [
        ("What is it?", "has no slot"),
        ("What is {a=n} minus {b=n}", "ends with one of"),
        ("What is {a=n} minus {c=n}?", "holes of a template"),
        ("What is {a=n} and {a=n} and {b=n}?", "holes of a template"),
        ("What is\n{a=n} minus {b=n}?", "one line"),
    ],
)
def test_a_phrasing_that_puts_no_prompt_is_refused(phrasing: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _worded(phrasings=[phrasing])
