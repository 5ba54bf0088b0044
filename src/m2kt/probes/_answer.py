"""Regular expressions for answers, whose worst case is bounded before they are run.

A packet carries its probe spec, and Python's ``re`` has no time limit: ``(a+)+$`` would never end. So an expression
consists of characters, classes, groups and alternatives; only single characters may be repeated; and the number of
steps on the slowest text of ``TEXT`` characters is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable

TEXT = 4096  # characters of a completion that are searched
MAX_STEPS = 2**28
MAX_PATTERN = 256
MAX_GROUPS = 16

_ATOM = re.compile(r"\\[dDwWsSnt]|\\[^\w]|\.|\[\^?(?:[^\]\[\\]|\\.)+\]|[^\\.\[\](){}|*+?^$]", re.DOTALL)
_ANCHOR = re.compile(r"\^|\$|\\b")
_REPEAT = re.compile(r"(?:([?*+])|\{(\d{1,4})(,?)(\d{0,4})\})\??(?![?*+{])")

Work = Callable[[int], int]  # steps of the rest of the expression -> steps from this piece on


def compile_answer(pattern: str) -> re.Pattern[str]:
    """The compiled expression.

    Raises:
        ValueError: not of the allowed kind, too many steps, or without a group.
    """
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"answer: expected a regular expression of at most {MAX_PATTERN} characters")
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
            "use at most one repetition without limit, and {1,20} for others; leave out a leading .*"
        )
    return compiled


def count_steps(pattern: str) -> int:
    """Steps of the slowest search in a text of ``TEXT`` characters, counted up to a little over ``MAX_STEPS``.

    Raises:
        ValueError: not of the allowed kind.
    """
    return TEXT * _Reader(pattern).read()


class _Reader:
    """Recursive descent parser. Each piece becomes a function from the steps after it to the steps from it on."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.offset, self.groups = pattern, 0, 0

    def read(self) -> int:
        work = self._alternatives()
        if self.offset < len(self.pattern):
            raise self._error()
        return work(1)

    def _alternatives(self) -> Work:
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        return lambda after: sum(branch(after) for branch in branches)

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
        if match := _ANCHOR.match(self.pattern, self.offset):
            self.offset = match.end()
            return lambda after: after + 1
        if not (match := _ATOM.match(self.pattern, self.offset)):
            return None
        self.offset = match.end()
        if not (repeat := _REPEAT.match(self.pattern, self.offset)):
            return lambda after: after + 1
        self.offset = repeat.end()
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
        taken = self.pattern.startswith(text, self.offset)
        self.offset += len(text) if taken else 0
        return taken

    def _error(self) -> ValueError:
        return ValueError(
            f"answer is not a regular expression of the allowed kind at character {self.offset}: expected characters, "
            "classes, groups and alternatives, with repetition of single characters; "
            f"got {self.pattern[self.offset :][:20]!r}"
        )
