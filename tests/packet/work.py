"""Work counted instead of timed: the same number on a loaded machine."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

MOST_CALLS = 2_000_000
"""Function calls that the refusal of a packet may take, as a test of F55; nearly all take ten thousand."""


def count_calls(action: Callable[[], object]) -> int:
    """Calls of functions, Python's and C's, that ``action`` makes."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(before)
    return calls


def count_search_steps(pattern: str, text: str) -> int:
    """Steps of a plain backtracking search in which every way fails: the slowest that F44 bounds.

    A step is the attempt to match one character or place, or to reach the end of the expression.
    """
    parsed = list(re._parser.parse(pattern))  # type: ignore[attr-defined]
    steps = 0

    def match(items: list[Any], at: int) -> Iterator[int]:
        nonlocal steps
        if not items:
            yield at
            return
        (kind, value), rest = items[0], items[1:]
        name = str(kind)
        if name == "SUBPATTERN":
            yield from match([*value[3], *rest], at)
        elif name == "BRANCH":
            for way in value[1]:
                yield from match([*way, *rest], at)
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, repeated = value
            inner = list(repeated)
            if str(inner[0][0]) == "SUBPATTERN":  # an optional group
                yield from match([*inner, *rest], at)
                yield from match(rest, at)
                return
            ends = [at]
            while len(ends) <= most and (further := list(match(inner, ends[-1]))):
                ends += further
            for end in reversed(ends[int(least) :]):
                yield from match(rest, end)
        else:
            steps += 1
            if name == "AT":
                if str(value) != "AT_END" or at == len(text):
                    yield from match(rest, at)
            elif at < len(text) and _matches(name, value, text[at]):
                yield from match(rest, at + 1)

    for start in range(len(text)):
        for _ in match(parsed, start):
            steps += 1
    return steps


def _matches(name: str, value: Any, character: str) -> bool:
    if name == "LITERAL":
        return bool(ord(character) == value)
    if name == "ANY":
        return character != "\n"
    raise NotImplementedError(name)
