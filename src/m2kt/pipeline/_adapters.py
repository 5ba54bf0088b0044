"""Adapters on disk: digest, and a commit that is either done or not. Loads no torch."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from m2kt.errors import StorageError

VERDICT = "m2kt-verdict.json"


def adapter_digest(path: Path) -> str | None:
    """sha256 over all files of an adapter directory but its verdict; None where there is none."""
    if not (path / "adapter_config.json").is_file():
        return None
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != VERDICT):
        total.update(f"{file.relative_to(path)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return "sha256:" + total.hexdigest()


def read_adapter(path: Path) -> str | None:
    """Digest of the adapter at ``path``. Raises StorageError where something else stands there."""
    occupied = path.is_file() or (path.is_dir() and any(path.iterdir()))
    if occupied and not (path / "adapter_config.json").is_file():
        raise StorageError(
            f"{path} exists and is not an adapter: choose another --out, nothing is overwritten"
        )
    return adapter_digest(path)


def commit_adapter(model: Any, path: Path, verdict: dict[str, Any]) -> None:
    """Writes the adapter and its verdict aside, then renames. A failure leaves what stood there before."""
    aside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        model.save_pretrained(str(aside))
        (aside / VERDICT).write_text(
            json.dumps(verdict, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        aside.chmod(0o755)
        former = aside.with_name(aside.name + ".former")
        if path.exists():
            path.rename(former)
        aside.rename(path)
        shutil.rmtree(former, ignore_errors=True)
    except Exception as error:
        # safetensors reports a full disk as an error of its own, not as an OSError
        if isinstance(error, OSError) or "SafetensorError" in type(error).__name__:
            raise StorageError(
                f"cannot write the adapter to {path}: {error}; free some space or choose another place"
            ) from error
        raise
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
