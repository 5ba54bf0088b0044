"""Where a question begins and ends in a text: a recogniser of the packet's prompts, of any size, anywhere.

It knows which units follow each other in prompts, not how many there are; prompts of a new shape may have one pair of
neighbours that it does not know. A question may begin wherever a word does, with or without a leading space before its
first unit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypedDict

from m2kt.probes import MASK, Segmenter, Unit
from m2kt.student.cal._lexicon import OTHER, kind_of

BEGIN, END = "^", "$"
MAX_NEW_PAIRS = 1
_MAX_HYPOTHESES = 8
_WORD_AT_END = re.compile(r"[^\W\d_]+\Z|\d+\Z")


class QuestionData(TypedDict):
    """A grammar on disk."""

    pairs: list[tuple[str, str]]
    required: list[str]
    once: list[str]
    shortest: int


@dataclass(frozen=True)
class QuestionGrammar:
    """Masks of units that stand side by side in prompts.

    A mask is structure itself, or for a symbol the leading space, ``MASK`` and the number of its class.
    """

    pairs: frozenset[tuple[str, str]]
    """``BEGIN`` and ``END`` stand for the ends of a prompt."""
    required: frozenset[str]
    """Structure that every prompt holds."""
    once: frozenset[str]
    """Structure that prompts of all sizes hold exactly once."""
    shortest: int
    """Units of the shortest prompt."""

    @classmethod
    def of(cls, prompts: Iterable[Sequence[str]]) -> QuestionGrammar:
        """From the masks of prompts of all probed shapes."""
        pairs: set[tuple[str, str]] = set()
        required: set[str] | None = None
        repeated: set[str] = set()
        sizes: set[int] = set()
        for masks in set(map(tuple, prompts)):
            pairs.update(zip((BEGIN, *masks), (*masks, END), strict=True))
            count = Counter(mask for mask in masks if MASK not in mask)
            required = set(count) if required is None else required & count.keys()
            repeated |= {mask for mask, n in count.items() if n > 1}
            sizes.add(len(masks))
        needed = frozenset(required or ())
        once = needed - repeated if len(sizes) > 1 else frozenset()
        return cls(frozenset(pairs), needed, frozenset(once), min(sizes, default=0))

    def data(self) -> QuestionData:
        """For the adapter's configuration."""
        pairs, required, once = sorted(self.pairs), sorted(self.required), sorted(self.once)
        return {"pairs": pairs, "required": required, "once": once, "shortest": self.shortest}

    @classmethod
    def from_data(cls, data: QuestionData) -> QuestionGrammar:
        """From :meth:`data`."""
        pairs = frozenset((a, b) for a, b in data["pairs"])
        return cls(pairs, frozenset(data["required"]), frozenset(data["once"]), data["shortest"])

    @cached_property
    def masks(self) -> frozenset[str]:
        """All masks of prompts."""
        return frozenset(mask for pair in self.pairs for mask in pair)

    @cached_property
    def begins(self) -> dict[str, str]:
        """Masks of first units without their leading space, to the mask in prompts."""
        return {second.removeprefix(" "): second for first, second in self.pairs if first == BEGIN}


class Hypothesis(NamedTuple):
    """A question may have begun at ``begin`` (units since the text began), and ``last`` is the mask read last."""

    begin: int
    last: str
    seen: frozenset[str]
    new: int = 0
    """Pairs of neighbours that no probed prompt has."""


class Found(NamedTuple):
    """A question that ends here."""

    begin: int
    units: list[Unit]


class QuestionReader:
    """Cuts text into units and follows all questions that may have begun."""

    def __init__(self, grammar: QuestionGrammar, symbols: Sequence[str], classes: Sequence[int]) -> None:
        self.grammar = grammar
        self.cut = Segmenter(symbols)
        self.class_of = dict(zip(symbols, classes, strict=True))
        # a symbol of several words may still grow: "New" is no unit yet if "New Zealand" may follow
        self.longest = max((len(s) + 1 for s in symbols if not (s.isalpha() or s.isdigit() or len(s) == 1)), default=0)

    def mask(self, unit: Unit) -> str:
        """A unit's mask."""
        if unit.symbol is None:
            return unit.text
        return f"{unit.lead}{MASK}{self.class_of[unit.symbol]}"

    def step(self, hypotheses: list[Hypothesis], unit: Unit, index: int, before: int) -> list[Hypothesis]:
        """All hypotheses behind one more unit.

        Args:
            before: what the text before the unit ends in, see :func:`kind_of`.
        """
        grammar, mask = self.grammar, self.mask(unit)
        following: list[Hypothesis] = []
        for begin, last, seen, new in hypotheses:
            new += (last, mask) not in grammar.pairs
            if new <= MAX_NEW_PAIRS and mask in grammar.masks and not (mask in seen and mask in grammar.once):
                following.append(Hypothesis(begin, mask, seen | {mask} if mask in grammar.required else seen, new))
        first = grammar.begins.get(mask.removeprefix(" "))
        if first is not None and (before == OTHER or before != kind_of(unit.text[:1])):
            following.append(Hypothesis(index, first, frozenset({first} & grammar.required)))
        if len(following) > _MAX_HYPOTHESES:
            following[1 : 1 - _MAX_HYPOTHESES] = []
        return following

    def ended(self, hypotheses: list[Hypothesis], index: int) -> Hypothesis | None:
        """Of the questions that may end before unit ``index``, the longest of those with the fewest new pairs."""
        grammar = self.grammar
        whole = [
            hypothesis
            for hypothesis in hypotheses
            if (hypothesis.last, END) in grammar.pairs
            and index - hypothesis.begin >= grammar.shortest
            and len(hypothesis.seen) == len(grammar.required)
        ]
        return min(whole, key=lambda hypothesis: hypothesis.new, default=None)


class Scan:
    """The questions that may be under way at one point of a text. Never modified: ``feed`` returns the next one."""

    __slots__ = ("before", "found", "hypotheses", "offset", "raw", "reader", "tail", "units")

    def __init__(self, reader: QuestionReader, before: int = OTHER) -> None:
        self.reader = reader
        self.before = before  # what the text before the first unit kept ends in
        self.units: list[Unit] = []  # since the earliest question that may be under way
        self.offset = 0  # units before those
        self.hypotheses: list[Hypothesis] = []
        self.tail = ""  # text that may be the beginning of a unit
        self.raw = ""  # bytes that are the beginning of a character
        self.found: Found | None = None

    def feed(self, raw: str) -> Scan:
        """The scan behind some more bytes."""
        new = Scan(self.reader, self.before)
        text, new.raw = _decode(self.raw + raw)
        new.tail = self.tail + text
        new.units, new.offset, new.hypotheses = self.units, self.offset, self.hypotheses
        units = self.reader.cut.cut(new.tail)
        kept = new._commit(units)
        if not new.raw:
            new._find(units[kept:])
        return new

    def _commit(self, units: list[Unit]) -> int:
        """Take over the units that no further text can change; returns their number."""
        word = _WORD_AT_END.search(self.tail)
        settled = len(self.tail) - max(1, self.reader.longest, len(word.group()) + 1 if word else 0)
        done, end = 0, 0
        while done < len(units) and end + len(units[done].text) <= settled:
            end += len(units[done].text)
            done += 1
        if not done:
            return 0
        self.units = self.units + units[:done]
        first = self.offset + len(self.units) - done
        for i, unit in enumerate(units[:done]):
            self.hypotheses = self.reader.step(self.hypotheses, unit, first + i, self.before)
            self.before = kind_of(unit.text)
        self.tail = self.tail[end:]
        earliest = self.hypotheses[0].begin if self.hypotheses else self.offset + len(self.units)
        self.units = self.units[earliest - self.offset :]
        self.offset = earliest
        return done

    def _find(self, rest: list[Unit]) -> None:
        """Read the rest of the text as if it ended here, and see whether a question does."""
        hypotheses, before, index = self.hypotheses, self.before, self.offset + len(self.units)
        for unit in rest:
            hypotheses = self.reader.step(hypotheses, unit, index, before)
            before, index = kind_of(unit.text), index + 1
        ended = self.reader.ended(hypotheses, index)
        if ended is not None:
            units = (self.units + rest)[ended.begin - self.offset :]
            self.found = Found(ended.begin, [self._first(units[0]), *units[1:]])

    def _first(self, unit: Unit) -> Unit:
        """A question's first unit with the leading space that it has in prompts."""
        mask = self.reader.grammar.begins[self.reader.mask(unit).removeprefix(" ")]
        lead = " " if mask.startswith(" ") else ""
        if unit.symbol is None:
            return Unit(mask)
        return Unit(lead + unit.symbol, unit.symbol, lead)


def _decode(raw: str) -> tuple[str, str]:
    """The text of bytes, and the bytes at its end that are the beginning of a character."""
    if raw.isascii():
        return raw, ""
    data = raw.encode("latin-1")
    for n in range(min(4, len(data) + 1)):
        try:
            return data[: len(data) - n].decode(), raw[len(raw) - n :]
        except UnicodeDecodeError:
            continue
    return data.decode(errors="replace"), ""
