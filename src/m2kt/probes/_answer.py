"""The expressions that may read an answer: regular expressions whose worst case is known before they are run.

A probe spec travels in packets, and Python's ``re`` has no time limit: ``(a+)+$`` would hang whoever reads an answer.
So an expression is made of characters, classes, groups and alternatives; only single characters are repeated, and the
steps that the slowest text of ``TEXT`` characters can cost are counted beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Callable

TEXT = 4096  # characters of a completion that are searched
MAX_STEPS = 2**28
MAX_PATTERN = 256
MAX_GROUPS = 16

_ATOM = re.compile(r"\\[dDwWsSnt]|\\[^\w]|\.|\[\^?(?:[^\]\[\\]|\\.)+\]|[^\\.\[\](){}|*+?^$]", re.DOTALL)
_PLACE = re.compile(r"\^|\$|\\b")
_REPEAT = re.compile(r"(?:([?*+])|\{(\d{1,4})(,?)(\d{0,4})\})\??(?![?*+{])")

Work = Callable[[int], int]  # steps of what comes after -> steps from here


def compile_answer(pattern: str) -> re.Pattern[str]:
    """The compiled expression.

    Raises:
        ValueError: not of the allowed kind, too slow on some text, or without a group.
    """
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"answer is not a regular expression of at most {MAX_PATTERN} characters")
    steps = count_steps(pattern)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"answer is not a regular expression: {error}") from error
    if compiled.groups < 1:
        raise ValueError("answer needs one group, as in '> (.+)\\\\.'")
    if steps > MAX_STEPS:
        raise ValueError(
            f"answer may take {steps:.0e} steps on a text of {TEXT} characters, allowed are {MAX_STEPS:.0e}: "
            "repeat one thing without limit, and others as in {1,20}; leave out a leading .*"
        )
    return compiled


def count_steps(pattern: str) -> int:
    """Steps of the slowest search in a text of ``TEXT`` characters, counted up to a little over ``MAX_STEPS``.

    Raises:
        ValueError: not of the allowed kind.
    """
    return TEXT * _Reader(pattern).read()


class _Reader:
    """Recursive descent; every piece is the steps that it costs, given those of what comes after it."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.at, self.groups = pattern, 0, 0

    def read(self) -> int:
        work = self._alternatives()
        if self.at < len(self.pattern):
            raise self._error()
        return work(1)

    def _alternatives(self) -> Work:
        ways = [self._sequence()]
        while self._take("|"):
            ways.append(self._sequence())
        return lambda after: sum(way(after) for way in ways)

    def _sequence(self) -> Work:
        pieces: list[Work] = []
        while (piece := self._piece()) is not None:
            pieces.append(piece)

        def work(after: int) -> int:
            for piece in reversed(pieces):
                after = min(piece(after), MAX_STEPS)
            return after

        return work

    def _piece(self) -> Work | None:
        if self._take("("):
            return self._group()
        if match := _PLACE.match(self.pattern, self.at):
            self.at = match.end()
            return lambda after: after + 1
        if not (match := _ATOM.match(self.pattern, self.at)):
            return None
        self.at = match.end()
        if not (repeat := _REPEAT.match(self.pattern, self.at)):
            return lambda after: after + 1
        self.at = repeat.end()
        sign, least, comma, most = repeat.groups()
        times = 1 if sign == "?" else TEXT if sign else int(most or (TEXT if comma else least))
        return lambda after: times * (after + 1) + after

    def _group(self) -> Work:
        self.groups += 1
        if self.groups > MAX_GROUPS:
            raise self._error()
        self._take("?:")
        inner = self._alternatives()
        if not self._take(")"):
            raise self._error()
        if not self._take("?"):
            return inner
        self._take("?")
        return lambda after: inner(after) + after

    def _take(self, text: str) -> bool:
        taken = self.pattern.startswith(text, self.at)
        self.at += len(text) if taken else 0
        return taken

    def _error(self) -> ValueError:
        return ValueError(
            f"answer is not a regular expression of the allowed kind at character {self.at}: expected characters, "
            f"classes, groups and alternatives, with single characters repeated; came {self.pattern[self.at :][:20]!r}"
        )
