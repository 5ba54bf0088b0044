"""The parts of a packet: their names, order and limits, and both forms on disk.

The single-file form is a zip of stored entries with one order, time and frame, so equal parts give equal bytes. Its
reader compares every byte of the frame with what the writer would have written: it searches nothing, unpacks nothing,
and uses no name from the file as a path. Writers write beside the target and rename.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Container
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from m2kt.errors import PacketError, StorageError, explain

MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
CARD = "README.md"
TENSORS = ("concepts.safetensors", "attention.safetensors", "traces.safetensors")
SPEC = "probes.yaml"
PROGRAM = "program.json"
GRAPH = "graph.json"  # of format 1, in its place
PARTS = (MANIFEST, CARD, SPEC, PROGRAM, *TENSORS, SIGNATURE)
PARTS_1 = (MANIFEST, CARD, SPEC, GRAPH, *TENSORS, SIGNATURE)
SUFFIX = ".m2kp"
LIMITS = {  # bytes; their sum stays below the 4 GiB of a plain zip
    MANIFEST: 1 << 20,
    CARD: 1 << 20,
    SPEC: 1 << 20,
    PROGRAM: 16 << 20,
    GRAPH: 16 << 20,
    TENSORS[0]: 2 << 30,
    TENSORS[1]: 512 << 20,
    TENSORS[2]: 1 << 30,
    SIGNATURE: 1 << 20,
}
MAX_NAMES = 64  # names that are read of a directory

_LOCAL = struct.Struct("<4s5H3I2H")  # signature, version, flags, method, time, date, CRC, sizes, lengths
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_VERSION, _UNIX, _DATE = 20, 3 << 8, (1 << 5) | 1  # 1980-01-01
_MODE = 0o100644 << 16
_LONGEST_NAME = 255


def parts_of(names: Container[str]) -> tuple[str, ...]:
    """The parts of the format that a packet with these names is of."""
    return PARTS_1 if GRAPH in names and PROGRAM not in names else PARTS


def check_size(name: str, size: int, where: str) -> None:
    """Raise PacketError if a part is larger than its limit; called before the part is read."""
    if size > LIMITS[name]:
        raise PacketError(f"{where}: {name} has {size} bytes, more than the {LIMITS[name]} allowed")


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
    """Write a packet beside ``path`` and rename it into place; an older packet is replaced as a whole.

    Raises:
        StorageError: the disk refused, or ``path`` holds something other than a packet. Nothing is left behind.
    """
    path = path.absolute() if not path.is_symlink() else path.resolve()
    for name, content in files.items():
        check_size(name, len(content), str(path))
    check_target(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        new = temporary / "new"
        if path.suffix == SUFFIX:
            _write_file(new, zip_bytes(files))
            _sync_directory(temporary)
            new.replace(path)
        else:
            new.mkdir()
            for name, content in files.items():
                _write_file(new / name, content)
            _sync_directory(new)
            _replace_directory(new, path, temporary / "old")
        _sync_directory(path.parent)
    except OSError as error:
        raise StorageError(
            f"cannot write the packet {path}: {explain(error)}; nothing was written, "
            "free some space or choose another path"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


# -- directory --------------------------------------------------------------------------------------------------------
def _read_directory(path: Path) -> dict[str, bytes]:
    with os.scandir(path) as entries:
        visible = (entry.name for entry in entries if not entry.name.startswith("."))
        names = set(islice(visible, MAX_NAMES))
    if MANIFEST not in names:
        raise PacketError(f"{path} is no packet: expected {MANIFEST} in it")
    parts = parts_of(names)
    missing = [name for name in parts if name not in names]
    if missing:
        raise PacketError(f"{path} is incomplete: {', '.join(missing)} missing; get the packet again")
    unknown = sorted(names - set(parts))
    if unknown:
        raise PacketError(
            f"{path} holds files that are not part of a packet: {', '.join(map(repr, unknown[:3]))}; remove them"
        )
    return {name: _read_file(path / name) for name in parts}


def _read_file(path: Path) -> bytes:
    """A part's bytes. Links could lead out of the packet, pipes and devices may never end: both are not opened."""
    info = path.lstat()
    if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
        kind = "a link" if stat.S_ISLNK(info.st_mode) or stat.S_ISREG(info.st_mode) else "no file"
        raise PacketError(f"{path} is {kind}; expected a regular file: copy the packet with its links resolved")
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:
        opened = os.fstat(file.fileno())
        if (opened.st_dev, opened.st_ino) != (info.st_dev, info.st_ino):
            raise PacketError(f"{path} was replaced while it was read; read the packet again")
        check_size(path.name, opened.st_size, str(path.parent))
        return file.read(opened.st_size)


def check_target(path: Path) -> None:
    """Raises StorageError where ``path`` holds something other than a packet."""
    if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).is_file():
        raise StorageError(f"{path} is a directory without a packet; choose another path")
    if path.is_file() and not (path.suffix == SUFFIX and zipfile.is_zipfile(path)):
        raise StorageError(f"{path} is a file that is no packet; choose another path or a name ending in {SUFFIX}")
    if path.is_dir() and path.suffix == SUFFIX:
        raise StorageError(f"{path} is a directory, but a name ending in {SUFFIX} is a single file")


def _write_file(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace_directory(new: Path, target: Path, old: Path) -> None:
    """Rename ``new`` to ``target``; on failure ``target`` is restored."""
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


# -- single file ------------------------------------------------------------------------------------------------------
def zip_bytes(files: dict[str, bytes]) -> bytes:
    """A packet as one file."""
    parts = parts_of(files)
    checksums = {name: zlib.crc32(files[name]) for name in parts}
    pieces: list[bytes] = []
    for name in parts:
        pieces += [_local_header(name, checksums[name], len(files[name])), files[name]]
    return b"".join([*pieces, _directory(checksums, {name: len(files[name]) for name in parts})])


def read_zip(file: BinaryIO, size: int, where: str) -> dict[str, bytes]:
    """The parts of a packet file of ``size`` bytes."""
    files: dict[str, bytes] = {}
    checksums: dict[str, int] = {}
    left = size
    for expected in PARTS:
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size or not head.startswith(b"PK\3\4"):
            raise PacketError(f"{where} is no packet file: expected the entry {expected}; get the packet again")
        _, _, flags, method, _, _, _, _, length, n_name, _ = _LOCAL.unpack(head)
        name = file.read(min(n_name, _LONGEST_NAME)).decode("ascii", "replace")
        _check_name(name, GRAPH if (name, expected) == (GRAPH, PROGRAM) else expected, files, where)
        if method != 0 or flags & 1:
            raise PacketError(f"{where}: {name} is compressed or encrypted; expected it stored")
        check_size(name, length, where)
        left -= _LOCAL.size + n_name + length
        if left < 0:
            raise PacketError(f"{where} is no packet file: it ends within {name}; get the packet again")
        files[name] = content = file.read(length)
        checksums[name] = zlib.crc32(content)
        if head + name.encode() != _local_header(name, checksums[name], len(content)):
            raise PacketError(
                f"{where} is not in canonical form: the header of {name} was edited; get the packet again"
            )
    end = _directory(checksums, {name: len(content) for name, content in files.items()})
    rest = file.read(len(end))
    if rest[:4] == b"PK\3\4" and len(rest) >= _LOCAL.size:
        n_name = min(_LOCAL.unpack(rest[: _LOCAL.size])[9], _LONGEST_NAME)
        name = rest[_LOCAL.size : _LOCAL.size + n_name].decode("ascii", "replace")
        _check_name(name, "the end", files, where)
    if rest != end or left != len(end):
        raise PacketError(f"{where} is not in canonical form: its frame was edited; get the packet again")
    return files


def _check_name(name: str, expected: str, read: dict[str, bytes], where: str) -> None:
    if name in read:
        raise PacketError(f"{where} holds {name} twice; do not use this packet")
    if name not in (*PARTS, GRAPH):
        raise PacketError(f"{where} holds a file that is not part of a packet: {name!r}; do not use this packet")
    if name != expected:
        raise PacketError(f"{where} is not in canonical form: expected {expected}, got {name}; get the packet again")


def _local_header(name: str, checksum: int, size: int) -> bytes:
    head = _LOCAL.pack(b"PK\3\4", _VERSION, 0, 0, 0, _DATE, checksum, size, size, len(name), 0)
    return head + name.encode()


def _directory(checksums: dict[str, int], sizes: dict[str, int]) -> bytes:
    entries, offset = b"", 0
    for name, size in sizes.items():
        head = (b"PK\1\2", _UNIX | _VERSION, _VERSION, 0, 0, 0, _DATE, checksums[name], size, size)
        entries += _CENTRAL.pack(*head, len(name), 0, 0, 0, 0, _MODE, offset) + name.encode()
        offset += _LOCAL.size + len(name) + size
    return entries + _END.pack(b"PK\5\6", 0, 0, len(sizes), len(sizes), len(entries), offset, 0)
