"""Signing where there is no home directory, or none that can be written: a sentence that names M2KT_HOME."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from m2kt.errors import StorageError
from m2kt.packet import list_keys, local_key, new_key

ROOT = Path(__file__).parents[2]
NOBODY = 54_321  # a uid without an entry in passwd
SIGN = """
import os, sys
from m2kt._home import check_home
from m2kt.errors import StorageError
from m2kt.packet import cosign, list_keys, local_key, new_key
if len(sys.argv) > 1:
    os.setuid(int(sys.argv[1]))
for verb in (check_home, local_key, lambda: new_key("ann"), lambda: cosign("packet")):
    try:
        verb()
        print("no error")
    except StorageError as error:
        print(error)
"""


def _sign(*arguments: str, **environment: str) -> list[str]:
    inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", SIGN, *arguments],
        env=inherited | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_no_home_and_no_passwd_entry() -> None:
    messages = _sign(str(NOBODY))
    assert len(messages) == 4
    assert all("set M2KT_HOME to a writable directory" in message for message in messages)


@pytest.mark.parametrize("variable", ["HOME", "M2KT_HOME"])
def test_a_home_that_cannot_be_written(variable: str) -> None:
    messages = _sign(**{variable: "/dev/null/x"})
    assert len(messages) == 4
    assert all("/dev/null/x" in message and "set M2KT_HOME" in message for message in messages)


def test_a_file_in_the_place_of_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path))
    (tmp_path / "keys").write_text("")
    for verb in (local_key, lambda: new_key("ann")):
        with pytest.raises(StorageError, match="set M2KT_HOME"):
            verb()
    assert list_keys() == []
