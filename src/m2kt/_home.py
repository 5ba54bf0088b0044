"""The directory for what outlives a command: fetched models, pulled packets and signing keys."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from m2kt.errors import StorageError, explain


def m2kt_home() -> Path:
    """``M2KT_HOME``, else ``~/.cache/m2kt``. Raises StorageError where neither is known."""
    try:
        return Path(os.environ.get("M2KT_HOME") or "~/.cache/m2kt").expanduser()
    except RuntimeError as error:
        raise StorageError(
            "expected M2KT_HOME or HOME in the environment, got neither; set M2KT_HOME to a writable directory"
        ) from error


def check_home() -> Path:
    """The directory, if it holds the local signing key or can be written; called before work whose result is signed.

    Raises StorageError.
    """
    home = m2kt_home()
    if (home / "keys" / "ed25519.pem").is_file():
        return home
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            return home
    except OSError as error:
        raise StorageError(
            f"expected a writable directory at {home}, got {explain(error)!r}; set M2KT_HOME to another"
        ) from error
