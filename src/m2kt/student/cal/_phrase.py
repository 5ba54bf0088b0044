"""Questions in other words: where a sentence may be one, and what it would ask; the student's states decide.

A sentence that ends with a mark and holds as many groups of symbols as a phrasing is a candidate. Its *frame* is all of
it but the symbols. Whether the frame puts this skill's question, and in which order, a linear map of the student's own
states over the frame says (:class:`ExecutedReader`); what is asked is then a question as prompts have it.

Letters: X width of the states read, C columns of the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypedDict

from m2kt.probes import MARKS, Unit
from m2kt.student.cal._before import DIGIT, JOIN, LETTER, OTHER, POINT
from m2kt.student.cal._gap import FILLING
from m2kt.student.cal._question import Found, QuestionReader, Scan

_MAX_SENTENCE = 400  # characters
_WORD, _NUMBER, _MARK = "\u0416", "\u00a4", ","  # stand for text that no symbol of the skill holds
_BREAKS = MARKS.replace("=", "") + ";"


class ReadingData(TypedDict):
    """What a phrasing asks, on disk."""

    texts: list[str]
    """Of the prompt, around the groups."""
    order: list[int]
    """By group of the prompt, the sentence's group with its symbols."""
    long: bool
    """Whether a group may hold several symbols."""
    column: int
    """Of the map that decides."""


class PhrasingData(TypedDict):
    """Phrasings on disk."""

    readings: list[ReadingData]
    threshold: float


class Asked(NamedTuple):
    """A sentence that ends here may be a question."""

    readings: dict[int, Found]
    """By column, what it would ask."""
    frame: tuple[int, ...]
    """Its tokens without symbols, counted back from this one; the sentence's first token is not among them."""
    rest: str
    """What stands behind its mark within this token."""


class Sentence(NamedTuple):
    """What stands in a sentence so far."""

    text: str = ""
    ends: tuple[int, ...] = ()
    """By token, the characters up to its end."""

    def then(self, piece: str) -> Sentence:
        """The sentence behind one more token, or the one that the token begins."""
        if "\n" in piece:
            return Sentence(piece.rpartition("\n")[2], (len(piece) - piece.rfind("\n") - 1,))
        over = self.text.rstrip(" ")[-1:] in _BREAKS and (self.text.endswith(" ") or piece.startswith(" "))
        if not self.ends or over or len(self.text) > _MAX_SENTENCE:
            return Sentence(piece, (len(piece),))
        return Sentence(self.text + piece, (*self.ends, len(self.text) + len(piece)))


EMPTY = Sentence()


def foreign_piece(begins: int, ends: int) -> str:
    """What stands for a token whose text no symbol holds."""
    if begins == OTHER and ends == OTHER:
        return "\n"  # a special token, or something else that no sentence holds
    if ends in (JOIN, POINT):
        return _MARK
    return ("" if begins in (LETTER, DIGIT) else " ") + (_NUMBER if ends == DIGIT else _WORD)


class Phrases:
    """Reads sentences as questions of a skill."""

    def __init__(self, data: PhrasingData, questions: QuestionReader) -> None:
        self.readings, self.threshold, self.questions = data["readings"], data["threshold"], questions
        self.any_long = any(reading["long"] for reading in self.readings)

    def asked(self, sentence: Sentence) -> Asked | None:
        """What the sentence may ask, if its mark stands in the last token."""
        body = sentence.text.rstrip(FILLING)
        last = sentence.ends[-2] if len(sentence.ends) > 1 else 0
        if not body or body[-1] not in MARKS or len(body) <= last:
            return None
        units = self.questions.cut.cut(body)
        groups, spans = self._groups(units)
        if not groups or not any(any(map(str.isalpha, u.text)) for u in units if u.symbol is None):
            return None
        readings: dict[int, Found] = {}
        for reading in self.readings:
            found = self._found(reading, groups)
            if found is not None:
                readings.setdefault(reading["column"], found)
        if not readings:
            return None
        tokens = list(pairwise((0, *sentence.ends)))
        frame = tuple(
            len(tokens) - 1 - i
            for i, (first, end) in enumerate(tokens)
            if i and not any(first < stop and start < end for start, stop in spans)
        )
        return Asked(readings, frame, sentence.text[len(body) :]) if frame else None

    def _groups(self, units: Sequence[Unit]) -> tuple[list[str], list[tuple[int, int]]]:
        """Symbols side by side, and where each group stands in the text; words that symbols tile are no groups."""
        groups: list[list[Unit]] = []
        spans: list[tuple[int, int]] = []
        at, before = 0, False
        for unit in units:
            start, at = at + len(unit.lead), at + len(unit.text)
            if unit.symbol is None:
                before = False
            elif before and not unit.lead:
                groups[-1].append(unit)
                spans[-1] = (spans[-1][0], at)
            else:
                groups.append([unit])
                spans.append((start, at))
                before = True
        kept = [i for i, group in enumerate(groups) if self.any_long or len(group) == 1]
        return ["".join(u.symbol or "" for u in groups[i]) for i in kept], [spans[i] for i in kept]

    def _found(self, reading: ReadingData, groups: Sequence[str]) -> Found | None:
        """The question of a reading, if prompts have it."""
        if len(groups) != len(reading["order"]):
            return None
        text = reading["texts"][0]
        for index, behind in zip(reading["order"], reading["texts"][1:], strict=True):
            text += groups[index] + behind
        return Scan(self.questions).feed(text.encode().decode("latin-1")).found
