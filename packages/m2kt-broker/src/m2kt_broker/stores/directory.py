"""Bytes in a directory: written aside, synced, renamed. A name is there with all its bytes, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from m2kt.errors import StorageError, explain

from ._base import CHUNK, KINDS, Kind

STALE_SECONDS = 3600  # another server may be writing now
_NAME = re.compile(r"[0-9a-f]{64}")


class DirectoryStore:
    """``ROOT/packets/ab/abcd...`` and the same for records."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._aside = root / "incoming"
        self._attempt("make folders", self._make)
        for left in self._aside.iterdir():  # of a process that died: it was never acknowledged
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > STALE_SECONDS:
                    left.unlink()

    def put(
        self, kind: Kind, digest: str, source: Path | bytes, labels: dict[str, str] | None = None
    ) -> None:
        path = self._path(kind, digest)
        if path.is_file() and _digest(path) == digest:  # what has rotted is written anew
            return
        self._attempt("write", lambda: self._write(path, source))

    def size(self, kind: Kind, digest: str) -> int | None:
        try:
            return self._path(kind, digest).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, kind: Kind, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        try:
            with open(self._path(kind, digest), "rb") as file:
                left = os.fstat(file.fileno()).st_size - start if end is None else end - start
                file.seek(start)
                while left > 0 and (piece := file.read(min(CHUNK, left))):
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise StorageError(f"cannot read {digest}: {explain(error)}; see m2kt broker check") from error

    def digests(self, kind: Kind) -> Iterator[str]:
        for path in (self._root / kind).glob("??/*"):
            if _NAME.fullmatch(path.name):
                yield f"sha256:{path.name}"

    def check(self) -> None:
        self._attempt("write", lambda: tempfile.TemporaryFile(dir=self._aside).close())

    def _make(self) -> None:
        for folder in (*(self._root / kind for kind in KINDS), self._aside):
            folder.mkdir(parents=True, exist_ok=True)

    def _path(self, kind: Kind, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self._root / kind / name[:2] / name

    def _write(self, path: Path, source: Path | bytes) -> None:
        descriptor, name = tempfile.mkstemp(dir=self._aside)
        aside = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if isinstance(source, bytes):
                    file.write(source)
                else:
                    with open(source, "rb") as origin:
                        shutil.copyfileobj(origin, file, CHUNK)
                file.flush()
                os.fsync(file.fileno())
            path.parent.mkdir(exist_ok=True)
            aside.replace(path)
            for folder in (path.parent, path.parent.parent):
                _sync(folder)
        finally:
            aside.unlink(missing_ok=True)

    def _attempt(self, what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            raise StorageError(
                f"cannot {what} in {self._root}: {explain(error)}; free some space or choose another place"
            ) from error


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
