"""Tensor files: safetensors in a canonical form. The header is read and checked before any number is."""

from __future__ import annotations

import json
import re
import struct
from math import prod
from typing import Any

import numpy as np

from m2kt.errors import PacketError

from ._json import check_depth

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

MAX_HEADER_BYTES = 1 << 16
MAX_TENSORS = 64
MAX_AXES = 4
MAX_AXIS = 2**31 - 1
MAX_NUMBERS = 2**31
# The order of tensors in a file: by type, which keeps them aligned, then by name.
DTYPES = {
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "F32": "<f4",
    "U32": "<u4",
    "I32": "<i4",
    "F16": "<f2",
    "U16": "<u2",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAME = re.compile(rf"[a-z]+(?:_[a-z]+)*_[A-Za-z0-9]{{1,{MAX_AXES}}}")
_OF_NUMPY = {np.dtype(code): name for name, code in DTYPES.items()}
_ORDER = {name: i for i, name in enumerate(DTYPES)}


def write_arrays(arrays: Arrays, where: str) -> bytes:
    """The bytes of a tensor file."""
    kinds = {}
    for name, array in arrays.items():
        if not _NAME.fullmatch(name):
            raise PacketError(f"{where}: {name!r} is no name of a tensor; expected words_AXES, as in vectors_KD")
        if array.dtype not in _OF_NUMPY:
            raise PacketError(f"{where}: {name} has type {array.dtype}; expected one of {', '.join(DTYPES)}")
        kinds[name] = _OF_NUMPY[array.dtype]
    names = sorted(arrays, key=lambda name: (_ORDER[kinds[name]], name))
    header = _header([(name, kinds[name], arrays[name].shape) for name in names])
    return b"".join([header, *(np.ascontiguousarray(arrays[name]).tobytes() for name in names)])


def read_arrays(raw: bytes, where: str) -> Arrays:
    """The tensors of a file.

    Raises:
        PacketError: the file is not, byte for byte, what :func:`write_arrays` writes.
    """
    listed = _read_header(raw, where)
    ordered = sorted(listed, key=lambda entry: (_ORDER[entry[1]], entry[0]))
    header = _header(ordered)
    if raw[: len(header)] != header:
        raise PacketError(f"{where}: its header is not in canonical form; save the packet with m2kt")
    sizes = [prod(shape) * np.dtype(DTYPES[kind]).itemsize for _, kind, shape in ordered]
    if len(header) + sum(sizes) != len(raw):
        raise PacketError(
            f"{where} is damaged: its header lists {sum(sizes)} bytes of numbers, got {len(raw) - len(header)}"
        )
    arrays, offset = {}, len(header)
    for (name, kind, shape), size in zip(ordered, sizes, strict=True):
        array = np.empty(shape, dtype=DTYPES[kind])
        array.reshape(-1).view(np.uint8)[:] = np.frombuffer(raw, np.uint8, size, offset) if size else []
        if kind == "BOOL" and array.view(np.uint8).max(initial=0) > 1:
            raise PacketError(f"{where}: {name} holds booleans other than 0 and 1; the packet is damaged")
        arrays[name] = array
        offset += size
    return arrays


def _read_header(raw: bytes, where: str) -> list[tuple[str, str, tuple[int, ...]]]:
    if len(raw) < 8:
        raise PacketError(f"{where} is damaged: {len(raw)} bytes, a tensor file has 8 at least")
    (length,) = struct.unpack("<Q", raw[:8])
    if length > MAX_HEADER_BYTES or 8 + length > len(raw):
        raise PacketError(
            f"{where} is damaged: a header of {length} bytes; expected at most {min(MAX_HEADER_BYTES, len(raw) - 8)}"
        )
    check_depth(raw[8 : 8 + length], where)
    try:
        header = json.loads(raw[8 : 8 + length].decode())
    except (UnicodeDecodeError, ValueError) as error:
        raise PacketError(f"{where} is damaged: its header is not JSON ({error})") from error
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise PacketError(f"{where}: expected a header with at most {MAX_TENSORS} tensors")
    return [(name, *_read_entry(name, entry, where)) for name, entry in header.items()]


def _read_entry(name: str, entry: object, where: str) -> tuple[str, tuple[int, ...]]:
    if not _NAME.fullmatch(name):
        raise PacketError(f"{where}: {name[:40]!r} is no name of a tensor; expected words_AXES, as in vectors_KD")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise PacketError(f"{where}: {name}: expected dtype, shape and data_offsets")
    kind, shape = entry["dtype"], entry["shape"]
    if not isinstance(kind, str) or kind not in DTYPES:
        raise PacketError(f"{where}: {name} has type {kind!r}; expected one of {', '.join(DTYPES)}")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= MAX_AXES
        or any(type(size) is not int or not 0 <= size <= MAX_AXIS for size in shape)
    ):
        raise PacketError(
            f"{where}: {name} has shape {str(shape)[:60]}; expected 1 to {MAX_AXES} sizes up to {MAX_AXIS}"
        )
    if prod(max(size, 1) for size in shape) > MAX_NUMBERS:  # a size of 0 must not hide what no array can have
        raise PacketError(f"{where}: {name} has shape {str(shape)[:60]}; expected at most {MAX_NUMBERS} numbers")
    return kind, tuple(shape)


def _header(entries: list[tuple[str, str, tuple[int, ...]]]) -> bytes:
    """Length, compact JSON, spaces up to a multiple of 8."""
    offset, header = 0, {}
    for name, kind, shape in entries:
        end = offset + prod(shape) * np.dtype(DTYPES[kind]).itemsize
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
