"""The verbs on the zoo as subprocesses: stdout holds one JSON value and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from m2kt.packet import RECEIPT, verify_statement

EXTRACT_KEYS = {
    "concepts",
    "rules",
    "states",
    "fidelity",
    "coverage",
    "teacher_passes",
    "packet_bytes",
    "seconds",
}
INGEST_KEYS = {"verdict", "accuracy", "before", "retention", "gap_recovered", "updates", "seconds"}
EVALUATE_KEYS = {"accuracy", "interval", "agreement", "n"}


def m2kt(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from m2kt.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def report(process: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    assert process.returncode == code, process.stderr
    data = json.loads(process.stdout)  # fails unless stdout is one JSON value
    assert isinstance(data, dict)
    return data


@pytest.fixture(scope="module")
def packet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("verbs") / "secret.m2kp"
    process = m2kt("extract", "zoo:secret", "--probes", "zoo:secret", "--out", path, "--json")
    return path, report(process)


def test_extract(packet: tuple[Path, dict[str, Any]]) -> None:
    path, result = packet
    assert result.keys() >= EXTRACT_KEYS
    assert result["concepts"] == 100 and result["rules"] == 1
    assert result["fidelity"] >= 0.995 and result["coverage"] >= 0.99
    inspected = report(m2kt("inspect", path, "--json"))
    assert inspected["ledger"]["teacher_passes"] == result["teacher_passes"]
    assert inspected["ledger"]["packet_bytes"] == result["packet_bytes"]


def test_evaluate(packet: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    result = report(
        m2kt("evaluate", "zoo:secret", "--probes", "zoo:secret", "--teacher", "zoo:secret", "--n", 20, "--json")
    )
    assert result.keys() >= EVALUATE_KEYS
    assert result["n"] == 20 and result["accuracy"] == result["agreement"] == 1.0
    labelled = tmp_path / "labelled.jsonl"
    labelled.write_text('{"prompt": "a b:", "answer": "z"}\n')
    result = report(m2kt("evaluate", "zoo:secret", "--probes", "zoo:secret", "--labelled", labelled, "--json"))
    assert result["n"] == 1 and result["accuracy"] == 0.0


def test_preflight(packet: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    result = report(m2kt("preflight", "zoo:pico-gpt2", packet[0], "--json"))
    assert result["fit"] and result["expected_retention"] == 1.0
    assert {check["name"] for check in result["checks"]} >= {"symbols", "context", "capacity", "following"}
    filtering = tmp_path / "cal.yaml"
    filtering.write_text("student: {flagged: [a, b]}\n")
    process = m2kt("preflight", "zoo:pico-gpt2", packet[0], "--config", filtering)
    assert process.returncode == 8 and "unfit" in process.stdout and "expected retention" in process.stdout


def test_a_rejection_exits_with_5_and_writes_only_a_receipt(
    packet: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    learned = ["--updates", 1, "--depth", "learned"]
    process = m2kt("ingest", "zoo:pico-gpt2", packet[0], "--out", tmp_path / "a", *learned, "--json")
    result = report(process, code=5)
    assert result.keys() >= INGEST_KEYS
    assert result["verdict"] == "rejected" and result["reasons"]
    assert result["diagnosis"][0]["name"] == "selector wrong" and result["steps"]["read_out"] < 0.9
    assert list(tmp_path.iterdir()) == [Path(result["receipt"])] == [tmp_path / "a.rejected.json"]
    assert "was not checked" in process.stderr
    statement = verify_statement(Path(result["receipt"]).read_bytes(), expected=RECEIPT, packet=result["packet"])
    receipt = statement.predicate
    assert receipt["verdict"] == "rejected" and receipt["reasons"] == result["reasons"] and receipt["origin"] is None
    assert receipt["base_model"]["name"] and receipt["base_model"]["digest"].startswith("sha256:")
    assert receipt["ledger"] == result["ledger"] and receipt["thresholds"] and receipt["cal"]["student"]
    assert receipt["before"] == {"accuracy": result["before"], "adapter": None}
    assert receipt["after"]["accuracy"] == result["accuracy"] and receipt["after"]["adapter"] is None
