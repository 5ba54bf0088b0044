"""The output of ``m2kt demo``; its measurements are tested with the pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from m2kt import pipeline
from m2kt.auditor import Verdict
from m2kt.cli import app
from m2kt.pipeline import DemoResult, DemoRow, DemoSample, Ingestion


def _result(restored: bool) -> DemoResult:
    row = DemoRow(
        skill="secret",
        student="zoo:pico-gpt2",
        teacher=0.995,
        before=0.05,
        after=0.99,
        interval=(0.97, 1.0),
        retention=0.995,
        gap_recovered=0.994,
        held_out=None,
        concepts=100,
        packet_bytes=558_697,
        labelled_examples=0,
        teacher_passes=3_789,
        teacher_tokens_in_packet=15,
        rehearsal_sequences=2_400,
        extract_seconds=17.1,
        ingest_seconds=41.0,
        verdict="accepted",
        sample=DemoSample(prompt="c e a:", before="= = b\nc", after=" c e > b; b a > j.\n"),
    )
    verdict = Verdict.model_construct(verdict="rejected", reasons=["skill not reached"], diagnosis=[])
    rollback = Ingestion.model_construct(
        verdict=verdict,
        adapter_digest_before="sha256:" + "ab" * 32,
        adapter_digest=("sha256:" if restored else "sha999:") + "ab" * 32,
    )
    return DemoResult.model_construct(
        rows=[row], rollback=rollback, restored=restored, seconds=100.0, kept="/tmp/it's/demo"
    )


@pytest.mark.parametrize("restored", [True, False])
def test_the_table_and_the_rollback_are_printed(restored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, object] = {}

    def demo(student: str, **options: object) -> DemoResult:
        arguments.update(options, student=student)
        return _result(restored)

    monkeypatch.setattr(pipeline, "demo", demo)
    result = CliRunner().invoke(app, ["demo", "--student", "zoo:pico-llama"], env={"COLUMNS": "120"})
    assert arguments["student"] == "zoo:pico-llama"
    for shown in (
        "99.5 %",
        "5.0 %",
        "99.0 %",
        "99.4 %",
        "100",
        "558,697",
        "3,789",
        "2,400",
        "accepted",
        "rolled back",
    ):
        assert shown in result.stdout, shown
    assert "skill not reached" in result.stdout
    for said in ("c e a:", "= = b", "c e > b; b a > j."):
        assert said in result.stdout, said
    assert "m2kt explain zoo:pico-gpt2 --adapter '/tmp/it'\"'\"'s/demo/secret.adapter' 'c e a:'" in result.stdout
    assert ("bit for bit" in result.stdout) == restored
    assert ("they differ" in result.stdout) != restored


def test_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "demo", lambda student, **options: _result(True).rows[0])
    result = CliRunner().invoke(app, ["demo", "--json"])
    assert json.loads(result.stdout)["skill"] == "secret" and result.stderr == ""


@pytest.mark.parametrize("columns", ["80", "100"])
def test_nothing_is_cut_off_and_no_line_is_wider_than_the_terminal(
    columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "demo", lambda student, **options: _result(True))
    result = CliRunner().invoke(app, ["demo"], env={"COLUMNS": columns})
    tables, _, steps = result.stdout.partition("kept in")
    assert "…" not in tables and "accepted" in tables and "rejected, rolled back" in tables and steps
    assert max(map(len, tables.split("\n"))) <= int(columns)


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 9 and "expected a new or an empty directory" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
