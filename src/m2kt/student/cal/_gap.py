"""What may stand between a question and its answer: blanks, lines, what closes a quotation, words that ask for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum

from m2kt.student.cal._question import decode

FILLING = " \t\r\n\"'`)]}*_\u201d\u2019\u00bb"
"""Characters of which any number may stand there."""
_PIECES = re.compile(r"[^\W_]+|[\W_]", re.DOTALL)


class Gap(Enum):
    """What a text behind a question is."""

    OTHER = "other text"
    PART = "the beginning of a gap"
    WHOLE = "a gap: the answer may begin behind it"


class Gaps:
    """The texts that may stand between a question and its answer.

    Args:
        afters: words that ask for the answer, such as "Answer:"; anything of ``FILLING`` may stand around them.
    """

    def __init__(self, afters: Iterable[str] = ()) -> None:
        self.afters = {stripped for after in afters if (stripped := after.strip(FILLING))}

    @property
    def texts(self) -> set[str]:
        """All of which gaps consist."""
        return {*self.afters, *FILLING}

    def __call__(self, raw: str) -> Gap:
        """What the bytes behind a question are."""
        text, part = decode(raw)
        begun = text.lstrip(FILLING)
        words = begun.rstrip(FILLING)
        if not part and (not words or words in self.afters):
            return Gap.WHOLE
        return Gap.PART if any(after.startswith(begun) for after in self.afters | {""}) else Gap.OTHER


def pieces(raw: str) -> list[str]:
    """A token's bytes, cut where a question may end: at each word and mark."""
    return _PIECES.findall(raw) if len(raw) > 1 and not raw.isalnum() else [raw]
