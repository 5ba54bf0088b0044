"""A store in a directory. A file is written under a temporary name, synced and renamed, so it is never incomplete."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from m2kt.errors import StorageError, explain

from ._base import CHUNK, KINDS, Kind, file_digest

STALE_SECONDS = 3600  # a younger temporary file may belong to another server
_NAME = re.compile(r"[0-9a-f]{64}")


class DirectoryStore:
    """The files ``ROOT/packets/ab/abcd...`` and ``ROOT/records/ab/abcd...``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._attempt("create folders", self._create_folders)
        for file in self._incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - file.stat().st_mtime > STALE_SECONDS:
                    file.unlink()

    def put(self, kind: Kind, digest: str, source: Path | bytes, labels: dict[str, str] | None = None) -> None:
        path = self._path(kind, digest)
        if path.is_file() and file_digest(path) == digest:  # a damaged file is replaced
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
                remaining = os.fstat(file.fileno()).st_size - start if end is None else end - start
                file.seek(start)
                while remaining > 0 and (chunk := file.read(min(CHUNK, remaining))):
                    remaining -= len(chunk)
                    yield chunk
        except OSError as error:
            raise StorageError(f"cannot read {digest}: {explain(error)}; m2kt broker check lists all damage") from error

    def digests(self, kind: Kind) -> Iterator[str]:
        for path in (self._root / kind).glob("??/*"):
            if _NAME.fullmatch(path.name):
                yield f"sha256:{path.name}"

    def check(self) -> None:
        self._attempt("write", lambda: tempfile.TemporaryFile(dir=self._incoming).close())

    def _create_folders(self) -> None:
        for folder in (*(self._root / kind for kind in KINDS), self._incoming):
            folder.mkdir(parents=True, exist_ok=True)

    def _path(self, kind: Kind, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self._root / kind / name[:2] / name

    def _write(self, path: Path, source: Path | bytes) -> None:
        descriptor, name = tempfile.mkstemp(dir=self._incoming)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if isinstance(source, bytes):
                    file.write(source)
                else:
                    with open(source, "rb") as opened:
                        shutil.copyfileobj(opened, file, CHUNK)
                file.flush()
                os.fsync(file.fileno())
            path.parent.mkdir(exist_ok=True)
            temporary.replace(path)
            for folder in (path.parent, path.parent.parent):
                _sync(folder)
        finally:
            temporary.unlink(missing_ok=True)

    def _attempt(self, action: str, function: Callable[[], object]) -> None:
        try:
            function()
        except OSError as error:
            raise StorageError(
                f"cannot {action} in {self._root}: {explain(error)}; free disk space or choose another folder"
            ) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
