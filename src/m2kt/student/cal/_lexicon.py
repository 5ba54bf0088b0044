"""The texts of a student's tokens, as far as a skill's text can hold them: a reader has no tokenizer at hand.

Texts are bytes, written as Latin-1 strings, because a token may end within a character. A token that can stand nowhere
in a question or an answer has no text here: it is *foreign*, and only how it ends is known, since a question does not
begin in the middle of a word.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Sequence

from m2kt.student.cal._before import KINDS, OTHER, kind_of, letter_or_digit


def as_bytes(text: str) -> str:
    """The UTF-8 bytes of a text as a Latin-1 string."""
    return text.encode().decode("latin-1")


def as_text(raw: str) -> str:
    """The text of bytes; a part of a character becomes U+FFFD."""
    return raw.encode("latin-1").decode("utf-8", errors="replace")


class Lexicon:
    """Text of the tokens that a skill's text may hold, and what every token ends in.

    Args:
        text_of: bytes by token id.
        ends: by token id, its :func:`kind_of`.
        starts: by token id, what it begins with.
    """

    def __init__(self, text_of: dict[int, str], ends: Sequence[int], starts: Sequence[int] = ()) -> None:
        self.text_of, self.ends, self.starts = text_of, ends, starts

    @classmethod
    def of(cls, token_bytes: Sequence[bytes], units: Iterable[str]) -> Lexicon:
        """From the bytes of all tokens and the texts of a skill's units."""
        raw = [b.decode("latin-1") for b in token_bytes]
        stands = _Concatenations(map(as_bytes, units))
        ends = [kind_of(as_text(text)) for text in raw]
        starts = [letter_or_digit(as_text(text)[:1]) for text in raw]
        return cls({i: text for i, text in enumerate(raw) if text and text in stands}, ends, starts)

    def packed(self) -> str:
        """As a string, for the adapter's configuration."""
        ids = sorted(self.text_of)
        kinds = ["".join(KINDS[kind] for kind in listed) for listed in (self.ends, self.starts)]
        data = json.dumps([ids, [self.text_of[i] for i in ids], *kinds])
        return base64.b64encode(zlib.compress(data.encode(), 9)).decode()

    @classmethod
    def unpacked(cls, packed: str) -> Lexicon:
        """From :meth:`packed`; empty from an empty string."""
        if not packed:
            return cls({}, [])
        ids, texts, *kinds = json.loads(zlib.decompress(base64.b64decode(packed)))
        return cls(dict(zip(ids, texts, strict=True)), *([KINDS.index(kind) for kind in listed] for listed in kinds))

    def end_of(self, token: int) -> int:
        """What a token ends in."""
        return self.ends[token] if 0 <= token < len(self.ends) else OTHER

    def start_of(self, token: int) -> int:
        """What a token begins with: a letter, a digit, or anything else."""
        return self.starts[token] if 0 <= token < len(self.starts) else OTHER


class _Concatenations:
    """The texts that can stand somewhere in a concatenation of units, each with or without a leading space."""

    def __init__(self, units: Iterable[str]) -> None:
        self.units = {form for unit in units if unit for form in (unit, " " + unit.removeprefix(" "))} | {" "}
        self.suffixes = {unit[i:] for unit in self.units for i in range(1, len(unit))}
        self.prefixes = {unit[:i] for unit in self.units for i in range(1, len(unit))}
        self.inner = {u[i:j] for u in self.units for i in range(1, len(u)) for j in range(i + 1, len(u))}
        self.characters = frozenset("".join(self.units))

    def __contains__(self, text: str) -> bool:
        if not self.characters.issuperset(text):
            return False
        if text in self.inner or text in self.units or text in self.prefixes or text in self.suffixes:
            return True
        size = len(text)
        reached = [i == 0 or text[:i] in self.suffixes for i in range(size + 1)]
        for i in range(size):
            if reached[i]:
                if text[i:] in self.prefixes:
                    return True
                for j in range(i + 1, size + 1):
                    reached[j] = reached[j] or text[i:j] in self.units
        return reached[size]
