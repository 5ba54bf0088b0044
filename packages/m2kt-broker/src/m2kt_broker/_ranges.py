"""Conditional requests and one range, as RFC 9110 has them. What is stored never changes, so its digest is its ETag."""

from __future__ import annotations

import re
from collections.abc import Mapping

_ONE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


def etag_of(digest: str) -> str:
    """A strong ETag."""
    return f'"{digest}"'


def not_modified(headers: Mapping[str, str], etag: str) -> bool:
    """Whether ``If-None-Match`` names what is there."""
    given = headers.get("if-none-match")
    if given is None:
        return False
    return given.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in given.split(",")]


def wanted_range(headers: Mapping[str, str], etag: str, size: int) -> tuple[int, int] | None:
    """First byte and the one behind the last; None where all of it is wanted, or where there is no range we serve.

    Raises:
        ValueError: the range lies outside.
    """
    match = _ONE.fullmatch(headers.get("range", "").strip())
    if match is None or headers.get("if-range", etag).strip() != etag:
        return None
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
    elif last:
        start, end = max(0, size - int(last)), size
    else:
        return None
    if start >= size or start >= end:
        raise ValueError(f"{size} bytes are there")
    return start, end
