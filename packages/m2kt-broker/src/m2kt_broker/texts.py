"""Texts from strangers: what no database and no terminal should meet is refused, or left out of the index."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def is_plain(text: str) -> bool:
    """One line without control characters, lone surrogates and turns of the direction of writing."""
    return _CONTROL.search(text) is None


def _plain(text: str) -> str:
    if not is_plain(text):
        raise ValueError("expected one line without control characters")
    return text


Plain = Annotated[str, AfterValidator(_plain)]
