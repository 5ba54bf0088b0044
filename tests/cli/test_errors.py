"""Invalid input: one error line on stderr, the documented exit code, nothing on stdout, no partial output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from m2kt.cli import app

CASES = {
    "no such spec": ("extract @model --probes @none.yaml --out @out", 3, "none.yaml"),
    "spec is not YAML": ("extract @model --probes @broken.yaml --out @out", 3, "not YAML"),
    "spec is not valid": ("extract @model --probes @wrong.yaml --out @out", 3, "colour"),
    "no such teacher": ("extract @missing --probes @spec.yaml --out @out", 4, "no such model directory"),
    "unknown zoo model": ("extract zoo:nothing --probes @spec.yaml --out @out", 4, "zoo:nothing"),
    "directory without a model": ("extract @empty --probes @spec.yaml --out @out", 4, "config.json"),
    "no such device": ("extract @model --probes @spec.yaml --out @out --device abacus", 4, "abacus"),
    "prompts exceed the context": ("extract @short --probes @spec.yaml --out @out", 6, "context"),
    "teacher never stops": ("extract @model --probes @spec.yaml --out @out", 6, "stop"),
    "no such packet": ("inspect @nothing", 7, "no packet at"),
    "edited packet": ("inspect @edited", 7, "README.md was edited"),
    "edited packet given to ingest": ("ingest @model @edited --out @out", 7, "README.md was edited"),
    "symbols that cannot be written": ("ingest @digits @packet --out @out --updates 1", 8, "'a'"),
    "settings are not valid": ("ingest @model @packet --out @out --config @settings.yaml", 3, "colour"),
    "output folder holds other files": ("ingest @model @packet --out @thesis --updates 1", 9, "thesis"),
    "labels without an answer": (
        "evaluate @model --probes @spec.yaml --labelled @labelled.jsonl",
        3,
        "answer",
    ),
    "unknown pretrained model": ("models get gpt-17", 4, "smollm2-135m"),
}


@pytest.mark.parametrize("with_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("case", CASES)
def test_bad_input(case: str, with_json: bool, inputs: Path) -> None:
    line, code, word = CASES[case]
    arguments = [a.replace("@", f"{inputs}/") if a.startswith("@") else a for a in line.split()]
    before = sorted(p.name for p in inputs.iterdir())
    result = CliRunner().invoke(app, [*arguments, *(["--json"] if with_json else [])])
    assert result.exit_code == code, (result.stderr, result.exception)
    assert result.stdout == ""
    errors = [text for text in result.stderr.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1 and result.stderr.rstrip().endswith(errors[0])
    assert word in errors[0]
    assert sorted(p.name for p in inputs.iterdir()) == before
    assert (inputs / "thesis" / "chapter.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    "line",
    [
        "extract zoo:secret --probes x",
        "extract zoo:secret --probes x --out y --verbalised 2",
        "extract zoo:secret --probes x --out y --concepts guessing",
        "extract zoo:secret --probes x --out y --dtype fp8",
        "ingest student",
        "evaluate model --probes x --n 0",
        "frobnicate",
    ],
)
def test_usage_errors_exit_with_2(line: str) -> None:
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 2 and result.stdout == ""


def test_an_unexpected_exception_is_not_reported_as_an_error(monkeypatch: pytest.MonkeyPatch, inputs: Path) -> None:
    from m2kt.packet import Packet

    def raise_zero_division(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Packet, "load", raise_zero_division)
    result = CliRunner().invoke(app, ["inspect", str(inputs / "packet")])
    assert isinstance(result.exception, ZeroDivisionError)


def test_models_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["models", "list", "--json"])
    rows = {row["name"]: row for row in json.loads(result.stdout)["models"]}
    assert rows["smollm2-135m"]["licence"] == "Apache-2.0" and not rows["smollm2-135m"]["available"]
    assert "Gemma" in rows["gemma-3-270m"]["licence"]
    assert rows["zoo:secret"]["available"]
    assert "zoo:secret" in CliRunner().invoke(app, ["models", "list"]).stdout
