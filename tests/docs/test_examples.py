"""The examples run as they are: scripts as processes, notebooks in a kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.walk import ROOT

EXAMPLES = ROOT / "examples"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def run(folder: Path, script: str, *arguments: str) -> str:
    process = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_a_packet_is_read_without_torch(tmp_path: Path) -> None:
    printed = run(tmp_path, "read_a_packet.py", str(ROOT / "tests" / "golden" / "packet-v2.m2kp"))
    assert "signed by key" in printed and "torch was not loaded" in printed and " -> " in printed


def test_the_list_of_examples_is_complete() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    files = [path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")]
    assert len(files) >= 6 and all(f"`{name}`" in listed for name in files)


@pytest.mark.slow
def test_a_transfer_and_its_adapter(tmp_path: Path) -> None:
    printed = run(tmp_path, "transfer.py")
    assert "Verdict(accepted" in printed and "i g b f: -> i g a; a b c; c f j > j." in printed
    assert (tmp_path / "answer.html").is_file()
    assert "with the adapter: c e a: c e d; d a a > a." in run(
        tmp_path, "use_the_adapter.py", "secret.adapter", "c e a:"
    )


@pytest.mark.slow
@pytest.mark.enable_socket
@pytest.mark.parametrize("name", ["look_at_an_answer.ipynb", "forget_a_row.ipynb"])
def test_notebooks(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # outputs would grow old
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    drawn = [o["data"] for cell in notebook.cells for o in cell.get("outputs", []) if "data" in o]
    assert sum("text/html" in data for data in drawn) >= 3
