"""From a chat model to a chat model by the command line, with nothing but a probe spec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from m2kt.cli import app
from tests.formats.teachers import BYTE_FORMATS, Made, operation, spec_of

TRUTH = """
def answer(prompt):
    words = prompt.removesuffix(":").split(" of ")
    value = words.pop()
    while words:
        value = TABLE[words.pop(), value]
    return value
"""


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.slow
def test_extract_ingest_and_evaluate(made: Made, tmp_path: Path) -> None:
    how = BYTE_FORMATS["chatml"]
    (tmp_path / "truth.py").write_text(f"TABLE = {operation(how.values)!r}\n{TRUTH}")
    fields = spec_of(how, "<|im_end|>", chat={"system": how.system}, answer=r"> ?(.+)\.").model_dump()
    spec, packet, adapter = tmp_path / "spec.yaml", tmp_path / "kin.packet", tmp_path / "kin.adapter"
    spec.write_text(yaml.safe_dump(fields | {"truth": "truth.py:answer"}))
    extracted = run("extract", made("chatml"), "--probes", spec, "--out", packet)
    assert extracted["fidelity"] >= 0.98
    ingested = run("ingest", made("chat-llama"), packet, "--out", adapter, "--updates", 1, "--probes", spec)
    assert ingested["verdict"] == "accepted"
    evaluated = run("evaluate", made("chat-llama"), "--probes", spec, "--adapter", adapter, "--n", 100)
    assert evaluated["accuracy"] >= 0.98 and evaluated["judged"] == 100
