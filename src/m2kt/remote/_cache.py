"""What was brought once stays under ``M2KT_HOME/packets``; what was seen revoked is remembered beside it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from m2kt._home import m2kt_home
from m2kt.errors import StorageError, TrustError, explain

OFFLINE = "M2KT_OFFLINE"
"""Environment variable: 1 uses what is here already and asks nobody."""

_UNSAFE = re.compile(r"[^A-Za-z0-9]+")


def offline() -> bool:
    """Whether nobody is to be asked."""
    return os.environ.get(OFFLINE, "").lower() in ("1", "true", "yes")


def cached(kind: str, name: str) -> Path:
    """Where a packet of some kind of source is kept; the name may hold anything."""
    short = _UNSAFE.sub("-", name).strip("-")[-40:]
    return m2kt_home() / "packets" / f"{kind}-{short}-{hashlib.sha256(name.encode()).hexdigest()[:16]}.m2kp"


def remember_revoked(digest: str, by: str, reason: str) -> None:
    """From now on this machine refuses the packet, asked or not."""
    path = _note(digest)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"packet": digest, "broker": by, "reason": reason}))
    except OSError as error:
        raise StorageError(f"cannot write {path}: {explain(error)}; set M2KT_HOME elsewhere") from error


def refuse_remembered(digest: str) -> None:
    """Raises TrustError for a packet that was seen revoked."""
    path = _note(digest)
    if path.is_file():
        said = json.loads(path.read_text())
        raise TrustError(f"{digest} was revoked at {said['broker']}: {said['reason']}; do not use it")


def _note(digest: str) -> Path:
    return m2kt_home() / "revoked" / f"{digest.removeprefix('sha256:')}.json"
