"""The verbs of m2kt bench; the other files here test what they call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from m2kt.cli import app

KEYS = [
    "mean_retention", "mean_gap_recovered", "worst_gap_recovered", "latent_only", "data_reduction_examples",
    "data_reduction_tokens", "compute_ratio", "skills", "seeds",
]  # fmt: skip


@pytest.fixture
def results() -> Path:
    return Path(__file__).parents[2] / "benchmarks" / "results" / "quick"


def test_report_prints_the_headline_and_writes_a_page(results: Path, tmp_path: Path) -> None:
    """Over the committed results."""
    page, tables = tmp_path / "r.html", tmp_path / "r.md"
    arguments = ["bench", "report", str(results), "--html", str(page), "--markdown", str(tables), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    headline = json.loads(done.stdout)
    assert list(headline) == KEYS
    assert headline["mean_retention"] >= 0.97 and headline["skills"] == 3
    assert "<svg" in page.read_text("utf-8") and "| secret |" in tables.read_text("utf-8")


def test_report_without_results_says_what_to_do(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "report", str(tmp_path)])
    assert done.exit_code == 3
    assert "m2kt bench run" in done.stderr


def test_failed_cells_make_the_exit_code(tmp_path: Path) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text(
        "name: p\ngroups: [{skills: [secret], students: ['zoo:pico-gpt2'], arms: [{arm: m2kt, nonsense: 1}]}]\n",
        "utf-8",
    )
    work = ["--results", str(tmp_path / "r"), "--work", str(tmp_path / "w")]
    done = CliRunner().invoke(app, ["bench", "run", str(profile), *work, "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["failed"] == 1
