"""What stands in front of a point of a text, as far as it decides whether a question may begin there.

A question does not begin in the middle of a word, nor in the middle of something longer that is no question of the
skill: of "1+2+3:" the skill of two summands reads nothing, nor of "2.5+3:" or "10 - 5+3:".
"""

from __future__ import annotations

from typing import NamedTuple

from m2kt.probes import Unit

OTHER, LETTER, DIGIT, JOIN, POINT = range(5)
KINDS = "olDjp"
"""A character for each kind that a text may end in. ``JOIN``: marks that join what stands on both sides; ``POINT``:
marks that end something if a blank follows."""
_JOINS = frozenset("-+*/^%=<>&|~\u00d7\u00f7\u00b7\u2212\u2013\u2014")
_OPENING = frozenset("\"'`([{#\u201c\u2018\u00ab\u2026")


def kind_of(text: str) -> int:
    """What a text ends in: of marks alone the kind of the last one, else a letter, a digit, or anything else."""
    marks = text.strip(" ")
    if marks and not any(c.isalnum() or c.isspace() or c in _OPENING for c in marks):
        return JOIN if marks[-1] in _JOINS else POINT
    return letter_or_digit(text)


def letter_or_digit(text: str) -> int:
    """Whether a text ends in a letter, a digit, or anything else, which nothing included."""
    last = text[-1:]
    return LETTER if last.isalpha() else DIGIT if last.isdigit() else OTHER


class Before(NamedTuple):
    """What stands in front."""

    last: int = OTHER
    """``LETTER``, ``DIGIT`` or ``OTHER``: what the text ends in."""
    part: int = OTHER
    """Of what it ends in a part: ``OTHER``: of nothing; ``DIGIT``: a symbol of the skill; ``JOIN`` and ``POINT``: such
    marks behind a symbol."""
    blank: bool = True
    """Whether it ends in a blank."""

    def then(self, text: str, symbol: bool) -> Before:
        """Behind some more text; ``symbol``: it is one of the skill's."""
        return self.behind(kind_of(text), symbol, text.endswith(" "), not text.strip(" "))

    def behind(self, kind: int, symbol: bool = False, blank: bool = False, nothing: bool = False) -> Before:
        """Behind some more text of a kind."""
        if nothing:
            return self._replace(last=OTHER, blank=True)
        last = kind if kind in (LETTER, DIGIT) else OTHER
        part = DIGIT if symbol else kind if kind in (JOIN, POINT) and self.part != OTHER else OTHER
        return Before(last, part, blank)

    def may_begin(self, unit: Unit) -> bool:
        """Whether a question may begin with a unit here."""
        first = unit.text[:1]
        if self.last != OTHER and self.last == letter_or_digit(first):
            return False
        return self.part == OTHER or (self.part == POINT and (self.blank or first == " "))


START = Before()
