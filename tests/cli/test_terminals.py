"""Terminals without UTF-8: marks of m2kt are written as ASCII, other characters as escapes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from m2kt.cli._output import ASCII
from tests.packet.samples import sample_packet


def m2kt(encoding: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, "-m", "m2kt", *map(str, arguments)],
        capture_output=True,
        env=environment,
        check=False,
    )


@pytest.fixture
def packet(tmp_path: Path) -> Path:
    """A packet whose symbols are letters outside ASCII."""
    sample = sample_packet()
    program = sample.program.model_copy(update={"symbols": ["ä", "β", "語"]})
    return sample.replace(program=program).save(tmp_path / "p.m2kp")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_inspect(encoding: str, packet: Path) -> None:
    process = m2kt(encoding, "inspect", packet)
    assert process.returncode == 0, process.stderr
    text = process.stdout.decode(encoding)
    assert ("□" in text) == (encoding == "utf-8") and ("copy the last _ back from" in text) == (encoding != "utf-8")
    assert ("語" if encoding == "utf-8" else "\\u8a9e") in text
    assert ("\\xe4" if encoding == "ascii" else "ä") in text


def test_json_is_the_same_object_everywhere(packet: Path) -> None:
    outputs = [m2kt(encoding, "inspect", packet, "--json").stdout for encoding in ("utf-8", "ascii", "cp1252")]
    assert outputs[1].isascii() and not outputs[0].isascii()
    objects = [json.loads(output) for output in outputs]
    assert objects[0] == objects[1] == objects[2] and "語" in objects[0]["symbols"]


def test_errors_and_help(packet: Path, tmp_path: Path) -> None:
    process = m2kt("ascii", "inspect", tmp_path / "語.m2kp")
    assert process.returncode == 7 and b"\\u8a9e" in process.stderr
    assert m2kt("ascii", "--help").returncode == 0


def test_replacements_keep_tables_aligned() -> None:
    assert all(len(mark) == len(ascii_) == 1 and ascii_.isascii() for mark, ascii_ in ASCII.items())


def test_python_m_runs_the_command() -> None:
    for module in ("m2kt", "m2kt.cli"):
        process = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, check=False)
        assert process.returncode == 0 and b"ingest" in process.stdout
