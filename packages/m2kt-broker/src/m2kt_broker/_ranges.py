"""Conditional requests and single byte ranges (RFC 9110). Stored bytes never change, so their digest is their ETag.

starlette's FileResponse serves ranges of local files only; these functions also serve buckets and registries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_SINGLE_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


def etag_of(digest: str) -> str:
    """The strong ETag of stored bytes."""
    return f'"{digest}"'


def not_modified(headers: Mapping[str, str], etag: str) -> bool:
    """Whether ``If-None-Match`` matches the ETag."""
    condition = headers.get("if-none-match")
    if condition is None:
        return False
    return condition.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in condition.split(",")]


def requested_range(headers: Mapping[str, str], etag: str, size: int) -> tuple[int, int] | None:
    """Start and end (exclusive) of the requested range; None where the whole body is to be sent.

    A header with several ranges, another unit or an invalid range is ignored, as RFC 9110 permits.

    Raises:
        ValueError: no byte of the range exists.
    """
    match = _SINGLE_RANGE.fullmatch(headers.get("range", "").strip())
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
        raise ValueError(f"expected a range within {size} bytes, got {match[0]}")
    return start, end
