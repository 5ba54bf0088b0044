"""Packets that were fetched, under ``M2KT_HOME/packets``, and revocations, under ``M2KT_HOME/revoked``."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from m2kt._home import m2kt_home
from m2kt.errors import StorageError, TrustError, explain

OFFLINE = "M2KT_OFFLINE"
"""Environment variable: 1 uses cached packets alone and sends no request."""

_UNSAFE = re.compile(r"[^A-Za-z0-9]+")


def offline() -> bool:
    """Whether no request may be sent."""
    return os.environ.get(OFFLINE, "").lower() in ("1", "true", "yes")


def cached(kind: str, name: str) -> Path:
    """Path of a cached packet.

    Args:
        kind: scheme of its reference.
        name: rest of its reference, any text.
    """
    readable = _UNSAFE.sub("-", name).strip("-")[-40:]
    return m2kt_home() / "packets" / f"{kind}-{readable}-{hashlib.sha256(name.encode()).hexdigest()[:16]}.m2kp"


def remember_revoked(digest: str, broker: str, reason: str) -> None:
    """Records a revocation: from now on this machine refuses the packet."""
    path = _record(digest)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"packet": digest, "broker": broker, "reason": reason}))
    except OSError as error:
        raise StorageError(f"cannot write {path}: {explain(error)}; set M2KT_HOME to another directory") from error


def refuse_remembered(digest: str) -> None:
    """Raises TrustError for a packet with a recorded revocation."""
    path = _record(digest)
    if path.is_file():
        record = json.loads(path.read_text())
        raise TrustError(f"{digest} was revoked at {record['broker']}: {record['reason']}; do not use it")


def _record(digest: str) -> Path:
    return m2kt_home() / "revoked" / f"{digest.removeprefix('sha256:')}.json"
