"""Files of a packet, as a directory or as one uncompressed zip. No pickle, no surprises.

Writing goes aside and is renamed at the end; reading takes exactly the known parts, within limits.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from itertools import islice
from pathlib import Path

from m2kt.errors import PacketError, StorageError, explain

from ._layout import MANIFEST, PARTS, SUFFIX, check_size
from ._zip import read_zip, zip_bytes

MAX_NAMES = 64  # names that are looked at in a directory


def read_parts(path: Path) -> dict[str, bytes]:
    """All parts of the packet at ``path``, directory or file."""
    try:
        if path.is_dir():
            return _read_directory(path)
        if path.is_file():
            with open(path, "rb") as file:
                return read_zip(file, os.fstat(file.fileno()).st_size, str(path))
    except OSError as error:
        raise PacketError(f"cannot read the packet {path}: {explain(error)}") from error
    raise PacketError(f"no packet at {path}; expected a packet directory or a {SUFFIX} file")


def write_parts(path: Path, files: dict[str, bytes]) -> None:
    """Write a packet aside and rename it into place; an older packet there is replaced as a whole.

    Raises:
        StorageError: the disk refused, or something else than a packet stands there. Nothing is left behind.
    """
    path = path.absolute() if not path.is_symlink() else path.resolve()
    for name, content in files.items():
        check_size(name, len(content), str(path))
    _refuse_foreign(path)
    aside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        new = aside / "new"
        if path.suffix == SUFFIX:
            _write_file(new, zip_bytes(files))
            _sync_directory(aside)
            new.replace(path)
        else:
            new.mkdir()
            for name, content in files.items():
                _write_file(new / name, content)
            _sync_directory(new)
            _swap_directory(new, path, aside / "old")
        _sync_directory(path.parent)
    except OSError as error:
        raise StorageError(
            f"cannot write the packet {path}: {explain(error)}; nothing was kept, "
            "free some space or choose another place"
        ) from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)


def _read_directory(path: Path) -> dict[str, bytes]:
    with os.scandir(path) as entries:
        shown = (entry.name for entry in entries if not entry.name.startswith("."))
        names = set(islice(shown, MAX_NAMES))
    _check_names(names, path)
    return {name: _read_file(path / name) for name in PARTS}


def _read_file(path: Path) -> bytes:
    """A part's bytes. A link could lead out of the packet, and a pipe or device could have no end: refused unopened."""
    info = path.lstat()
    if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
        kind = "a link" if stat.S_ISLNK(info.st_mode) or stat.S_ISREG(info.st_mode) else "no file"
        raise PacketError(
            f"{path} is {kind}; expected a regular file of its own: copy the packet, links resolved"
        )
    flags = (
        os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    with open(os.open(path, flags), "rb") as file:
        now = os.fstat(file.fileno())
        if (now.st_dev, now.st_ino) != (info.st_dev, info.st_ino):
            raise PacketError(f"{path} was exchanged while it was read; read the packet again")
        check_size(path.name, now.st_size, str(path.parent))
        return file.read(now.st_size)


def _check_names(names: set[str], path: Path) -> None:
    if MANIFEST not in names:
        raise PacketError(f"{path} is no packet: expected {MANIFEST} in it")
    missing = [name for name in PARTS if name not in names]
    if missing:
        raise PacketError(f"{path} is incomplete: {', '.join(missing)} missing; get the packet again")
    foreign = sorted(names - set(PARTS))
    if foreign:
        raise PacketError(
            f"{path} holds what is no part of a packet: {', '.join(map(repr, foreign[:3]))}; remove it"
        )


def _refuse_foreign(path: Path) -> None:
    if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).is_file():
        raise StorageError(
            f"{path} is a directory that holds something else than a packet; choose another place"
        )
    if path.is_file() and not (path.suffix == SUFFIX and zipfile.is_zipfile(path)):
        raise StorageError(
            f"{path} is a file that is no packet; choose another place or a name ending in {SUFFIX}"
        )
    if path.is_dir() and path.suffix == SUFFIX:
        raise StorageError(f"{path} is a directory, and a name ending in {SUFFIX} asks for a single file")


def _write_file(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _swap_directory(new: Path, target: Path, old: Path) -> None:
    """Put ``new`` where ``target`` was; on failure the old one stands again."""
    if not target.exists():
        new.rename(target)
        return
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
