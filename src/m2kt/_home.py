"""Where M2KT keeps what outlives a command: fetched models and the local signing key."""

from __future__ import annotations

import os
from pathlib import Path


def m2kt_home() -> Path:
    """``M2KT_HOME``, else ``~/.cache/m2kt``."""
    return Path(os.environ.get("M2KT_HOME") or Path.home() / ".cache" / "m2kt").expanduser()
