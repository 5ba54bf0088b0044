"""``m2kt probes new`` and ``check``, ``m2kt try``: from example prompts to a spec that a teacher answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from m2kt.cli import app
from m2kt.probes import ProbeSpec
from tests.tiny import char_tokenizer, save_tiny


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout or result.stderr


def report(*arguments: object, code: int = 0) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(run(*arguments, "--json", code=code))
    return data


def test_a_new_spec_is_written_checked_and_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "sums.yaml"
    written = report("probes", "new", path, "12+7:", "5+30:", "--answer", "last number")
    assert written["templates"] == ["{d}{d}+{d}:", "{d}+{d}{d}:"]
    schema = json.loads(Path(written["json_schema"]).read_text())
    assert schema == ProbeSpec.model_json_schema()
    assert path.read_text().startswith(f"# yaml-language-server: $schema={Path(written['json_schema']).name}\n")
    checked = report("probes", "check", path)
    assert checked["slots"] == {"d": 10} and checked["answer"] == "last number" and not checked["truth"]
    assert all(len(shape["examples"]) == 3 for shape in checked["shapes"])
    assert "which exists" in run("probes", "new", path, "1:", code=3)


def test_check_shows_the_truths_answers_and_what_its_code_raises(tmp_path: Path) -> None:
    checked = report("probes", "check", "zoo:secret")
    texts = [text for shape in checked["shapes"] for text in shape["examples"]]
    assert set(texts) == set(checked["expected"]) and all(checked["expected"].values())
    assert f"{texts[0]} -> {checked['expected'][texts[0]]}" in run("probes", "check", "zoo:secret")
    run("probes", "new", tmp_path / "s.yaml", "1:")
    (tmp_path / "truth.py").write_text("def answer(prompt):\n    raise KeyError(prompt)\n")
    text = (tmp_path / "s.yaml").read_text().replace("truth: null", "truth: truth.py:answer")
    (tmp_path / "s.yaml").write_text(text)
    assert "truth: truth.py:answer fails on" in run("probes", "check", tmp_path / "s.yaml", code=3)


def test_try_reads_a_teacher_as_extraction_will() -> None:
    tried = report("try", "zoo:secret", "--probes", "zoo:secret", "--n", 6)
    assert tried["ready"] and tried["problem"] is None and tried["right"] == len(tried["prompts"]) == 6
    for prompt in tried["prompts"]:
        assert "".join(unit["text"] for unit in prompt["prompt_units"]) == prompt["prompt"]
        assert prompt["completion"].startswith("".join(unit["text"] for unit in prompt["units"]).rstrip("\n"))
        assert prompt["answer"] in {unit["symbol"] for unit in prompt["units"]}


def test_try_says_that_an_expression_finds_nothing(tmp_path: Path) -> None:
    from m2kt.pipeline._inputs import read_spec

    spec = read_spec("zoo:secret")[0].public().model_copy(update={"answer": "= (.+)"})
    (tmp_path / "s.yaml").write_text(spec.to_yaml())
    tried = report("try", "zoo:secret", "--probes", tmp_path / "s.yaml", "--n", 4, code=6)
    assert not tried["ready"] and tried["answered"] == 0 and "'= (.+)'" in tried["problem"]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_try_shows_a_model_that_was_never_taught(family: str, tmp_path: Path) -> None:
    save_tiny(tmp_path / family, family, char_tokenizer())
    run("probes", "new", tmp_path / "s.yaml", "a b:", "b c:", "--stop", "@")
    spec = (tmp_path / "s.yaml").read_text() + "max_new_tokens: 8\n"
    (tmp_path / "s.yaml").write_text(spec)
    text = run("try", tmp_path / family, "--probes", tmp_path / "s.yaml", "--n", 4, code=6)
    assert "extraction would refuse this" in text and "(no stop)" in text and "because: " in text
