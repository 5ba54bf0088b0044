"""A home directory that is unknown or cannot be written: a sentence that names M2KT_HOME, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2kt._home import check_home, m2kt_home
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


def test_no_home_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")  # as for a uid without a passwd entry

    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(StorageError, match="set M2KT_HOME"):
        m2kt_home()
