"""Pens: a task's writer writes its answer with one, unit by unit, so that a symbol can be forced while it writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Protocol

Cut = Callable[[str], list[str]]


class Pen(Protocol):
    """What a writer writes with."""

    def t(self, text: str) -> None:
        """Write structure."""

    def s(self, symbol: str) -> str:
        """Write a symbol; returns the one that stands there, which under forcing is the forced one."""


Writer = Callable[[str, Pen], object]


class _SpacedPen(ABC):
    """Spaces around a symbol belong to the structure."""

    def s(self, symbol: str) -> str:
        if not isinstance(symbol, str):
            raise TypeError(f"pen.s: expected a text, got {symbol!r}")
        body = symbol.strip(" ")
        if not body:
            self.t(symbol)
            return symbol
        start = symbol.index(body)
        lead, trail = symbol[:start], symbol[start + len(body) :]
        self.t(lead)
        standing = self._symbol(body)
        self.t(trail)
        return lead + standing + trail

    @abstractmethod
    def t(self, text: str) -> None: ...
    @abstractmethod
    def _symbol(self, symbol: str) -> str: ...


class FreePen(_SpacedPen):
    """Writes what it is asked to. ``symbol_ends``: for each symbol, its first character's offset to its end."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self.symbol_ends: dict[int, int] = {}

    @property
    def text(self) -> str:
        """All that was written."""
        return "".join(self._parts)

    def t(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)

    def _symbol(self, symbol: str) -> str:
        self.symbol_ends[self._length] = self._length + len(symbol)
        self.t(symbol)
        return symbol


class OtherCourse(BaseException):
    """The writer asked for structure that does not stand there. No Exception: a writer might catch those."""


class ForcedPen(_SpacedPen):
    """Lets the units of an answer stand, whatever is asked; ``intended`` holds what was asked at each of them.

    Args:
        units: the answer's units, the stop string last.
        symbol_ends: extent of the symbols, as in :class:`FreePen`; empty where it is not known.
        cut: segments text into units.
    """

    def __init__(self, units: Sequence[str], symbol_ends: Mapping[int, int], cut: Cut) -> None:
        self.intended: list[str | None] = [None] * len(units)
        self._units, self._symbol_ends, self._cut = units, symbol_ends, cut
        self._text = "".join(units)
        self._ends = list(accumulate(map(len, units)))
        self._boundaries = frozenset(self._ends)
        self._offset = 0
        self._settled = 0  # units before this index have their final value
        self._asked: str | None = None  # of the unit around the offset, where it differs from what stands
        self._other = ""  # after another course was taken: the asked text from the start of unit ``_settled`` on

    def t(self, text: str) -> None:
        if self._other:
            self._take_other_course(text)
            return
        if not self._text.startswith(text, self._offset):
            self._diverge(text)
            return
        end = self._offset + len(text)
        if self._asked is not None:
            unit_end = self._ends[self._unit_at(self._offset)]
            self._asked += text[: unit_end - self._offset]
            if end >= unit_end:
                self._intend(self._asked, unit_end)
        self._accept(end)

    def _symbol(self, symbol: str) -> str:
        if self._other:
            self._take_other_course(symbol)
            return symbol
        end = self._symbol_ends.get(self._offset)
        if end is None:
            end = self._offset + len(symbol)
            if not self._text.startswith(symbol, self._offset) or end not in self._boundaries:
                if self._symbol_ends:
                    self._diverge(symbol)
                    return symbol
                end = self._ends[self._unit_at(self._offset)]
        standing = self._text[self._offset : end]
        if standing != symbol or self._asked is not None:
            asked = self._asked_here() + symbol
            if end < self._ends[self._unit_at(self._offset)]:
                self._asked = asked  # the unit goes on
            else:
                self._intend(asked, end)
        self._accept(end)
        return standing

    def end(self) -> None:
        """The writer is done: what it intends next is the stop string."""
        unit = self._unit_at(self._offset)
        if self._other:
            self.intended[self._settled] = self._cut(self._other)[0]
        elif unit >= self._settled:
            self.intended[unit] = self._text[self._start(unit) : self._offset] or self._units[-1]

    def _unit_at(self, offset: int) -> int:
        return min(bisect_right(self._ends, offset), len(self._units) - 1)

    def _start(self, unit: int) -> int:
        return self._ends[unit] - len(self._units[unit])

    def _accept(self, end: int) -> None:
        """What stands before ``end`` is what was asked, unless a unit is settled already."""
        passed = bisect_right(self._ends, end)
        for unit in range(self._settled, passed):
            self.intended[unit] = self._units[unit]
        self._settled = max(self._settled, passed)
        self._offset = end

    def _asked_here(self) -> str:
        """What was asked of the unit around the offset."""
        return (
            self._text[self._start(self._unit_at(self._offset)) : self._offset] if self._asked is None else self._asked
        )

    def _intend(self, asked: str, end: int) -> None:
        """Other text stands from the unit around the offset to ``end``. Units are known up to the first to differ."""
        first, last = self._unit_at(self._offset), bisect_right(self._ends, end)  # last: the unit after
        for unit, text in zip(range(first, min(last + 1, len(self._units))), self._cut(asked), strict=False):
            self.intended[unit] = text
            self._settled = unit + 1
            if text != self._units[unit]:
                break
        self._settled = max(self._settled, last)
        self._asked = None

    def _diverge(self, text: str) -> None:
        """Other text is asked for than stands from the offset on: find the first unit that differs."""
        unit = self._unit_at(self._offset)
        offset, asked = self._start(unit), self._asked_here() + text
        for same in self._cut(asked)[:-1]:
            if not self._text.startswith(same, offset) or offset + len(same) not in self._boundaries:
                break
            offset, asked = offset + len(same), asked[len(same) :]
        unit = self._unit_at(offset)
        if unit < self._settled:
            raise OtherCourse
        for passed in range(self._settled, unit):
            self.intended[passed] = self._units[passed]
        self._settled = unit
        self._take_other_course(asked)

    def _take_other_course(self, text: str) -> None:
        """The unit that is asked for ends where the next one begins: in this text or in one that is still to come."""
        self._other += text
        units = self._cut(self._other)
        if len(units) > 1:
            self.intended[self._settled] = units[0]
            raise OtherCourse


def written(writer: Writer) -> Callable[[str], str]:
    """The function of a writer: what it writes with a free pen."""

    def function(prompt: str) -> str:
        pen = FreePen()
        writer(prompt, pen)
        return pen.text

    return function
