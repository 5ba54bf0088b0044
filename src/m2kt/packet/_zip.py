"""The single-file form: a zip of stored entries, of one order, time and frame, so equal parts give equal bytes.

The reader walks the file from its start and compares every byte of the frame with what the writer would have written.
Nothing is searched, nothing is unpacked, and no name from the file is ever used as a path.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from m2kt.errors import PacketError

from ._layout import PARTS, SUFFIX, check_size

_LOCAL = struct.Struct("<4s5H3I2H")  # signature, version, flags, method, time, date, CRC, sizes, lengths
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_VERSION, _UNIX, _DATE = 20, 3 << 8, (1 << 5) | 1  # 1980-01-01
_MODE = 0o100644 << 16
_LONGEST_NAME = 255


def zip_bytes(files: dict[str, bytes]) -> bytes:
    """A packet as one file."""
    checks = {name: zlib.crc32(files[name]) for name in PARTS}
    pieces: list[bytes] = []
    for name in PARTS:
        pieces += [_local(name, checks[name], len(files[name])), files[name]]
    return b"".join([*pieces, _directory(checks, {name: len(files[name]) for name in PARTS})])


def read_zip(file: BinaryIO, size: int, where: str) -> dict[str, bytes]:
    """The parts of a packet file of ``size`` bytes."""
    files: dict[str, bytes] = {}
    checks: dict[str, int] = {}
    left = size
    for expected in PARTS:
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size or not head.startswith(b"PK\3\4"):
            raise PacketError(
                f"{where} is no packet file: expected {expected} here; it is damaged or something else"
            )
        _, _, flags, method, _, _, _, _, length, n_name, _ = _LOCAL.unpack(head)
        name = file.read(min(n_name, _LONGEST_NAME)).decode("ascii", "replace")
        _check_name(name, expected, files, where)
        if method != 0 or flags & 1:
            raise PacketError(f"{where}: {name} is compressed or encrypted; expected it stored")
        check_size(name, length, where)
        left -= _LOCAL.size + n_name + length
        if left < 0:
            raise PacketError(f"{where} is no packet file: it ends within {name}; get the packet again")
        files[name] = content = file.read(length)
        checks[name] = zlib.crc32(content)
        if head + name.encode() != _local(name, checks[name], len(content)):
            raise PacketError(
                f"{where} is not in canonical form: the frame of {name} was edited; get it again"
            )
    end = _directory(checks, {name: len(files[name]) for name in PARTS})
    came = file.read(len(end))
    if came[:4] == b"PK\3\4" and len(came) >= _LOCAL.size:
        n_name = min(_LOCAL.unpack(came[: _LOCAL.size])[9], _LONGEST_NAME)
        name = came[_LOCAL.size : _LOCAL.size + n_name].decode("ascii", "replace")
        _check_name(name, "the end", files, where)
    if came != end or left != len(end):
        raise PacketError(f"{where} is not in canonical form: its frame was edited; get the packet again")
    return files


def _check_name(name: str, expected: str, before: dict[str, bytes], where: str) -> None:
    if name in before:
        raise PacketError(f"{where} holds {name} twice; do not use this packet")
    if name not in PARTS:
        raise PacketError(
            f"{where} holds what is no part of a packet: {name!r}; a {SUFFIX} file holds nothing else"
        )
    if name != expected:
        raise PacketError(
            f"{where} is not in canonical form: expected {expected}, came {name}; get the packet again"
        )


def _local(name: str, check: int, size: int) -> bytes:
    head = _LOCAL.pack(b"PK\3\4", _VERSION, 0, 0, 0, _DATE, check, size, size, len(name), 0)
    return head + name.encode()


def _directory(checks: dict[str, int], sizes: dict[str, int]) -> bytes:
    entries, at = b"", 0
    for name in PARTS:
        size = sizes[name]
        head = (b"PK\1\2", _UNIX | _VERSION, _VERSION, 0, 0, 0, _DATE, checks[name], size, size)
        entries += _CENTRAL.pack(*head, len(name), 0, 0, 0, 0, _MODE, at) + name.encode()
        at += _LOCAL.size + len(name) + size
    return entries + _END.pack(b"PK\5\6", 0, 0, len(PARTS), len(PARTS), len(entries), at, 0)
