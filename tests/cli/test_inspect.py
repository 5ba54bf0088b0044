"""``m2kt inspect``: text, JSON and HTML output."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from m2kt.cli import app
from m2kt.packet import Packet
from tests.packet.samples import OUTPUTS, SYMBOLS, sample_packet
from tests.pages import check_page


def _readable(packet: Packet) -> Packet:
    """The sample packet with vectors that its prototypes decode to OUTPUTS."""
    directions = np.eye(3, 4, dtype=np.float32)
    samples = directions[packet.concepts.prototype_symbol_P] + 0.01 * packet.concepts.prototype_samples_PD
    concepts = packet.concepts.replace(
        prototype_samples_PD=samples, vectors_KD=directions[OUTPUTS], prototypes_SD=directions
    )
    return packet.replace(concepts=concepts)


@pytest.fixture(params=["packet", "packet.m2kp"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return _readable(sample_packet()).save(tmp_path / request.param)


def test_json_output(path: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    assert result.exit_code == 0 and result.stderr == ""
    report = json.loads(result.stdout)
    assert report["symbols"] == SYMBOLS and report["ledger"]["teacher_passes"] == 3700
    assert report["digest"].startswith("sha256:") and len(report["signer"]) == 64
    (rule,) = report["rules"]
    assert [row["output"] for row in rule["rows"]] == [None] * 9
    assert [row["decoded"] for row in rule["rows"]] == [SYMBOLS[o] for o in OUTPUTS]
    assert rule["rows"][5]["arguments"] == ["b", "c"] and rule["rows"][5]["support"] == 5
    assert len(report["states"]) == 8 and report["leaves"] == 11 and report["granularity"] == "values"


def test_text_output(path: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(path)], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    for shown in (
        "rule 1: 2 arguments, 9 rows, used at 1 places",
        "│ a     │ ~c │ ~a │ ~b │",
        "8 states, 11 leaves",
        "copy □ number 2 + as many as ; in the answer from the question's start",
        "rule 1(2 units back, the unit just written)",
        "there: write ' >'",
        "99.50 %",
        "75.0 %",
        "3,700 teacher passes",
        "layer 2, by interrogation",
    ):
        assert shown in result.stdout, shown


def test_verbalised_outputs_have_no_mark_of_decoding(tmp_path: Path) -> None:
    packet = _readable(sample_packet(verbalised=True))
    result = CliRunner().invoke(app, ["inspect", str(packet.save(tmp_path / "p"))])
    assert "│ a     │ c │ a │ b │" in result.stdout and "~c" not in result.stdout


def test_wide_tables_are_folded_and_rules_of_one_argument_are_listed(tmp_path: Path) -> None:
    packet = _readable(sample_packet())
    # symbols are long words: a grid of them is wider than the default 80 columns
    names = ["grandmother-in-law" * 2, "second-cousin-once-removed" * 2, "great-grandfather" * 2]
    program = packet.program.model_copy(update={"symbols": names})
    result = CliRunner().invoke(app, ["inspect", str(packet.replace(program=program).save(tmp_path / "wide"))])
    joined = "".join(result.stdout.split())
    assert all(f"{n}→~" in joined for n in names)

    unary = packet.program.rules[0].model_copy(update={"arity": 1, "rows": [(0,), (1,), (2,)], "outputs": [None] * 3})
    rules = [unary.model_copy(update={"name": f"rule {i}", "offset": 3 * i}) for i in range(3)]
    program = packet.program.model_copy(update={"rules": rules, "states": []})
    result = CliRunner().invoke(app, ["inspect", str(packet.replace(program=program).save(tmp_path / "unary"))])
    assert result.exit_code == 0 and "rule 2: 1 arguments, 3 rows" in result.stdout
    assert "no step could be explained" in result.stdout


def test_a_fallback_is_named_with_its_reason(tmp_path: Path) -> None:
    packet = sample_packet(fallback=True, fallback_reason="step 7 resisted")
    result = CliRunner().invoke(app, ["inspect", str(packet.save(tmp_path / "p"))])
    assert "fallback (plain traces): step 7 resisted" in result.stdout


def test_inspect_imports_no_torch(path: Path) -> None:
    import subprocess
    import sys

    script = """
import sys
sys.modules["torch"] = None  # an import of torch fails
from m2kt.cli import app
app(["inspect", sys.argv[1], "--json"])
"""
    process = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["name"] == "tiny-secret"


def test_the_html_page(path: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["inspect", str(path), "--html", str(page)])
    assert result.exit_code == 0 and result.stdout == "" and "page.html" in result.stderr
    html = page.read_text(encoding="utf-8")
    check_page(html)
    assert "Packet tiny-secret" in html and "~c" in html and "Verified" in html
    with_json = CliRunner().invoke(app, ["inspect", str(path), "--html", str(page), "--json"])
    assert json.loads(with_json.stdout)["name"] == "tiny-secret"


def test_a_page_that_cannot_be_written(path: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(path), "--html", str(tmp_path / "none" / "page.html")])
    assert result.exit_code == 9 and result.stdout == "" and "cannot write the page" in result.stderr
