"""Canonical JSON, and parsing untrusted JSON: depth is checked first, then values, then the canonical form."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from m2kt.errors import PacketError

MAX_DEPTH = 128
MAX_CONTAINERS = 500_000
MAX_INTEGER = 2**53 - 1  # what every JSON library keeps exactly

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# Control characters but tab and line ends; U+202A..202E and U+2066..2069 reverse the direction of writing, so that text
# looks different from what it is. In canonical JSON an odd number of backslashes before b, f or u begins one.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_END = re.compile(r'(?<!\\)"\\u0004"')  # a text that is ``END`` and nothing else
_ESCAPED_CONTROL = re.compile(r"(?<!\\)(?:\\\\)*+\\[bfu]")


JSONObject = dict[str, Any]


def canonical_json(data: object) -> bytes:
    """The only JSON of some data: sorted keys, UTF-8, no NaN, one final newline."""
    text = json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def parse_json(raw: bytes, what: str) -> Any:
    """The values of a JSON document. Raises PacketError if depth, containers or integers exceed the limits."""
    check_depth(raw, what)
    try:
        return json.loads(raw.decode(), parse_int=_integer, parse_constant=_no_constant)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise PacketError(f"{what} is not JSON ({error}); the packet is damaged") from error


def check_depth(raw: bytes, what: str) -> None:
    """Count brackets outside of strings, before any value is built."""
    brackets = _STRING.sub(b"", raw).translate(_AS_SQUARE, _NO_BRACKETS)
    if brackets.count(b"[") > MAX_CONTAINERS:
        raise PacketError(f"{what} holds more than the {MAX_CONTAINERS} lists and objects allowed; do not use it")
    steps = ord("\\") - np.frombuffer(brackets, np.uint8).astype(np.int32)  # [ is 1, ] is -1
    if steps.cumsum().max(initial=0) > MAX_DEPTH:
        raise PacketError(f"{what} is nested deeper than the {MAX_DEPTH} levels allowed; do not use it")


def check_canonical(raw: bytes, dump: Callable[[], object], what: str, *, may_end: bool = False) -> None:
    """Raise PacketError unless ``raw`` is the canonical JSON of what was read: no doubled key, no field left out.

    Args:
        may_end: whether a text may be ``END``, which is no printable character.
    """
    try:
        expected = canonical_json(dump())
    except ValueError as error:  # a lone surrogate, NaN or infinity
        raise PacketError(f"{what} cannot be written as JSON ({error}); the packet is damaged") from error
    if expected != raw:
        offset = next(
            (i for i, (a, b) in enumerate(zip(expected, raw, strict=False)) if a != b),
            min(len(expected), len(raw)),
        )
        raise PacketError(
            f"{what} is not in canonical form: at byte {offset} expected {expected[offset : offset + 20]!r}, "
            f"got {raw[offset : offset + 20]!r}; save it with m2kt"
        )
    text = raw.decode()
    _check_printable_json(_END.sub('""', text) if may_end else text, what)


def check_printable(text: str, what: str) -> None:
    """Raise PacketError for control characters and those that reverse the direction of writing."""
    _refuse(_UNPRINTABLE.search(text), what)


def check_printable_data(data: object, what: str) -> None:
    """The same for every text within some data."""
    try:
        _check_printable_json(canonical_json(data).decode(), what)
    except ValueError as error:
        raise PacketError(f"{what} holds a value that is no text or number ({error})") from error


def _check_printable_json(text: str, what: str) -> None:
    _refuse(_UNPRINTABLE.search(text) or ("\\" in text and _ESCAPED_CONTROL.search(text)) or None, what)


def _refuse(match: re.Match[str] | None, what: str) -> None:
    if match:
        raise PacketError(
            f"{what} holds an unprintable character at {match.start()} ({match.group()!r}); do not use this packet"
        )


def one_line(text: str, limit: int = 600) -> str:
    """An error's text as one printable line of bounded length, for it may quote an untrusted packet."""
    text = " ".join(text[: 4 * limit].split())
    text = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _integer(digits: str) -> int:
    if len(digits) > 17 or abs(value := int(digits)) > MAX_INTEGER:
        raise ValueError(f"integer {digits[:20]} is larger than {MAX_INTEGER}")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")
