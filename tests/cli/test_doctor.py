"""``m2kt doctor`` on healthy and broken machines; a real server answers, or does not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner

import m2kt
from m2kt.cli import app
from m2kt.pipeline import DoctorCheck
from m2kt.pipeline._doctor import _unmet


def checks(**options: bool) -> dict[str, DoctorCheck]:
    return {check.name: check for check in m2kt.doctor(**options).checks}


def test_what_is_there() -> None:
    import torch

    result = m2kt.doctor(network=False)
    found = {check.name: check for check in result.checks}
    assert result.healthy and "m2kt works here" in result.headline() and result.report()["healthy"] is True
    assert torch.__version__ in found["m2kt"].found and found["devices"].state == "good"
    assert "CPU" in found["devices"].found and os.environ["M2KT_HOME"] in found["home"].found
    assert int(found["models"].found.split()[0]) > 10
    assert not {"Hub", "package index", "broker"} & set(found)
    missing = [check for check in result.checks if check.state == "missing"]
    assert all(check.advice and check.needed_for for check in missing)


def test_requirements_that_are_not_met() -> None:
    required = ["rich>=13", "rich>=999", 'no-such-package>=2; extra == "html"', 'rich<1; python_version < "3"']
    assert [line.split()[0] for line in _unmet(required, None)] == ["rich"] and ">=999" in _unmet(required, None)[0]
    assert _unmet(required, "html") == ["no-such-package is not installed"]


def test_a_broken_home_is_exit_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "file" / "home"))
    result = CliRunner().invoke(app, ["doctor", "--no-network", "--json"])
    report = json.loads(result.stdout)
    assert result.exit_code == 1 and report["healthy"] is False
    (home,) = [check for check in report["checks"] if check["state"] == "broken"]
    assert home["name"] == "home" and "M2KT_HOME" in home["advice"]
    assert (
        CliRunner().invoke(app, ["doctor", "--no-network"]).stdout.rstrip().split("\n")[-1].startswith("broken: home")
    )


def test_a_key_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path))
    assert "none yet" in checks(network=False)["keys"].found
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "ann.pem").write_text("no key")
    key = checks(network=False)["keys"]
    assert key.state == "missing" and key.advice is not None and "ann.pem" in key.advice


class _Busy(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Busy)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.enable_socket
def test_who_answers(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("M2KT_BROKER_URL", closed)
    monkeypatch.setattr("m2kt.pipeline._doctor.INDEX", closed)
    found = checks()
    assert found["Hub"].state == "good"  # it is busy, and it is there
    assert found["broker"].state == found["package index"].state == "missing" and closed in found["broker"].found
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("M2KT_OFFLINE", "1")
    off = checks()
    assert off["Hub"].state == off["broker"].state == "off"
    monkeypatch.setenv("M2KT_BROKER_URL", "ftp://user:secret@host")
    wrong = checks()["broker"]
    assert wrong.state == "missing" and "secret" not in wrong.found


def test_without_torch_it_still_speaks(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    process = subprocess.run(
        [sys.executable, "-m", "m2kt", "doctor", "--no-network", "--json"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1, process.stderr
    broken = [check for check in json.loads(process.stdout)["checks"] if check["state"] == "broken"]
    assert [check["name"] for check in broken] == ["devices"] and "libcudart" in broken[0]["found"]
