"""A home directory that is unknown or not writable: an error that names M2KT_HOME, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from m2kt._home import check_home, m2kt_home
from m2kt.cli import app
from m2kt.errors import StorageError


def test_home_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "new" / "home"))
    assert check_home() == tmp_path / "new" / "home"
    assert list(check_home().iterdir()) == []


def test_home_below_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(StorageError, match="set M2KT_HOME"):
        check_home()


def test_an_unknown_home_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")  # as for a uid without a passwd entry

    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(StorageError, match="set M2KT_HOME"):
        m2kt_home()


@pytest.mark.parametrize(
    "line",
    [
        "extract no-such-teacher --probes none.yaml --out packet",
        "ingest no-such-student nothing --out adapter",
        "consolidate no-such-student --adapter a --packet nothing --out plain",
        "demo",
        "keys new ann",
    ],
)
def test_verbs_that_sign_refuse_before_any_work(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the teacher, the student and the packet do not exist: an error after the check would name them
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 9, (result.stderr, result.exception)
    assert "set M2KT_HOME" in result.stderr and "such" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_read_only_home_with_a_key_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from m2kt.packet import local_key

    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "home"))
    local_key()

    def no_file(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", no_file)
    assert check_home() == tmp_path / "home"
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "other"))
    with pytest.raises(StorageError, match="Permission denied"):
        check_home()
