"""People with keys, and policies about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from m2kt.packet import KeyInfo, new_key, show_key

EXPIRES = "2030-01-01"


def key(name: str) -> KeyInfo:
    """A key of that name, made on first use."""
    from m2kt.packet import key_path

    return show_key(name) if key_path(name).is_file() else new_key(name)


def trusted(name: str, *roles: str, owner: str | None = None, **more: Any) -> dict[str, Any]:
    info = key(name)
    entry = {"keyid": info.keyid, "public_key": info.public_key, "owner": owner or name, "roles": list(roles)}
    return {**entry, "expires": EXPIRES, **more}


def policy_file(path: Path, *keys: dict[str, Any], **more: Any) -> Path:
    data = {"keys": list(keys), "thresholds": {"teacher": 1}, **more}
    path.write_text(yaml.safe_dump(data))
    return path
