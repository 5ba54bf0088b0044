"""Optional packages that are not installed: an error or a note names the package to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from m2kt.cli import _transfer, app
from tests.packet.samples import sample_packet


@pytest.fixture
def packet(tmp_path: Path) -> Path:
    return sample_packet().save(tmp_path / "p.m2kp")


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_pages_name_their_extra(package: str, packet: Path, tmp_path: Path) -> None:
    script = f"import sys; sys.modules[{package!r}] = None; from m2kt.cli import app; app(sys.argv[1:])"
    arguments = ["inspect", str(packet), "--html", str(tmp_path / "page.html")]
    result = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    message = f"--html needs {package}, which is not installed: pip install 'm2kt[html]'"
    assert result.returncode == 3 and message in result.stderr, result.stderr
    assert not (tmp_path / "page.html").exists()


def test_ingest_notes_that_no_text_was_audited(packet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["ingest", "no-such-student", str(packet), "--out", str(tmp_path / "a")]
    assert "not audited" not in CliRunner().invoke(app, command).stderr
    monkeypatch.setattr(_transfer, "plugins", lambda group: {})
    assert "texts were not audited: pip install m2kt-content" in CliRunner().invoke(app, command).stderr


def test_audit_names_the_missing_distribution(packet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m2kt.auditor._content.plugins", lambda group: {})
    result = CliRunner().invoke(app, ["audit", str(packet)])
    assert result.exit_code == 3 and "pip install 'm2kt-content'" in result.stderr
