"""Every text that a packet carries, found by walking its bytes: nothing depends on a list of known fields."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import JsonValue

from ._parts import CARD, SIGNATURE, SPEC, TENSORS

if TYPE_CHECKING:
    from ._packet import Packet

MAX_CHARACTERS = 10_000
"""Longer texts are cut into pieces of this length that overlap."""
OVERLAP = 500
_HEADER = struct.Struct("<Q")


def carried_texts(packet: Packet) -> Iterator[tuple[str, str]]:
    """(part, text) of everything that the packet's files hold as text, as they would be written now.

    Lines of the card and of the probe spec (with its comments); names and values of manifest, program and probe spec;
    names and metadata of tensors; what the signature states.
    """
    parts = packet._current_parts()
    for name, content in parts.items():
        for where, text in _texts_of(name, content):
            yield from ((f"{name}, {where}", piece) for piece in _pieces(text))


def _texts_of(name: str, content: bytes) -> Iterator[tuple[str, str]]:
    if name in (CARD, SPEC):
        for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
            yield f"line {number}", line
    elif name in TENSORS:
        (size,) = _HEADER.unpack_from(content)
        yield from _strings(json.loads(content[_HEADER.size : _HEADER.size + size]), "header")
    elif name == SIGNATURE:
        yield from _strings(json.loads(base64.b64decode(json.loads(content)["payload"])), "statement")
    else:
        yield from _strings(json.loads(content), "")


def _strings(value: JsonValue, where: str) -> Iterator[tuple[str, str]]:
    """Names and texts at any depth."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _strings(item, f"{where}[{i}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield f"a name in {where}" if where else "a name", name
            yield from _strings(item, f"{where}.{name}" if where else name)


def _pieces(text: str) -> Iterator[str]:
    if len(text) <= MAX_CHARACTERS:
        yield text
        return
    for start in range(0, len(text), MAX_CHARACTERS - OVERLAP):
        yield text[start : start + MAX_CHARACTERS]
