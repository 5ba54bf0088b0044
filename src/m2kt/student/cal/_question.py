"""Where a question begins and ends in a text: a recogniser of the packet's prompts, of any size, anywhere.

It knows which units follow each other in prompts, not how many there are; prompts of a new shape may have one pair of
neighbours that it does not know. More blanks than prompts have mean nothing. A question may begin wherever a word does,
with or without a leading space before its first unit, but not in the middle of something that goes on to its left.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypedDict

from m2kt.probes import MASK, Part, Segmenter, Unit, single_parts
from m2kt.student.cal._before import START, Before

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
    def words(self) -> frozenset[str]:
        """Words and numbers that are structure."""
        return frozenset(mask.strip() for mask in self.masks if MASK not in mask and mask.strip().isalnum())

    def apart(self, symbols: Sequence[str], classes: Sequence[int]) -> set[Part]:
        """Of letters and digits: those whose symbols stand side by side in prompts, with nothing between."""
        joined = {second[len(MASK) :] for first, second in self.pairs if MASK in first and second.startswith(MASK)}
        single = [s for s, c in zip(symbols, classes, strict=True) if len(s) == 1 and str(c) in joined]
        return single_parts(single)

    @cached_property
    def begins(self) -> dict[str, str]:
        """Masks of first units without their leading space, to the mask in prompts."""
        return {second.removeprefix(" "): second for first, second in self.pairs if first == BEGIN}


class Chain(NamedTuple):
    """Units of a question, the last one first: hypotheses share what they have in common."""

    unit: Unit
    before: Chain | None


class Hypothesis(NamedTuple):
    """A question may have begun at ``begin`` (units since the text began), and ``last`` is the mask read last."""

    begin: int
    last: str
    seen: frozenset[str]
    units: Chain
    size: int = 1
    new: int = 0
    """Pairs of neighbours that no probed prompt has."""
    spaced: bool = False
    """Whether blanks stand behind the last unit: any number of them is one."""


class Found(NamedTuple):
    """A question that ends here."""

    begin: int
    units: list[Unit]
    """As prompts have them: blanks that the text has besides are left out."""


class QuestionReader:
    """Cuts text into units and follows all questions that may have begun."""

    def __init__(self, grammar: QuestionGrammar, symbols: Sequence[str], classes: Sequence[int]) -> None:
        self.grammar = grammar
        self.cut = Segmenter(symbols, apart=grammar.apart(symbols, classes), whole=grammar.words)
        self.class_of = dict(zip(symbols, classes, strict=True))
        # a symbol of several words may still grow: "New" is no unit yet if "New Zealand" may follow
        self.longest = max((len(s) + 1 for s in symbols if not (s.isalpha() or s.isdigit() or len(s) == 1)), default=0)

    def mask(self, unit: Unit) -> str:
        """A unit's mask."""
        if unit.symbol is None:
            return unit.text
        return f"{unit.lead}{MASK}{self.class_of[unit.symbol]}"

    def step(self, hypotheses: list[Hypothesis], unit: Unit, index: int, before: Before) -> list[Hypothesis]:
        """All hypotheses behind one more unit."""
        grammar = self.grammar
        if not unit.text.strip(" ") and unit.text not in grammar.masks:
            return [hypothesis._replace(spaced=True) for hypothesis in hypotheses]
        following = [new for old in hypotheses if (new := self._continued(old, unit)) is not None]
        mask = self.mask(unit)
        first = grammar.begins.get(mask.removeprefix(" "))
        if first is not None and before.may_begin(unit):
            seen = frozenset({first} & grammar.required)
            following.append(Hypothesis(index, first, seen, Chain(_with_lead(unit, first.startswith(" ")), None)))
        if len(following) > _MAX_HYPOTHESES:
            following[1 : 1 - _MAX_HYPOTHESES] = []
        return following

    def _continued(self, hypothesis: Hypothesis, unit: Unit) -> Hypothesis | None:
        """A hypothesis behind one more unit; None where no prompt goes on so."""
        grammar, last = self.grammar, hypothesis.last
        if hypothesis.spaced:
            unit = _with_lead(unit, True)
        mask = self.mask(unit)
        if (last, mask) not in grammar.pairs and mask.startswith(" ") and (_is_mark(mask) or _is_mark(last)):
            bare = _with_lead(unit, False)  # a blank beside a mark says nothing: "1 + 2" is "1+2"
            if (last, self.mask(bare)) in grammar.pairs:
                unit, mask = bare, self.mask(bare)
        new = hypothesis.new + ((last, mask) not in grammar.pairs)
        if new > MAX_NEW_PAIRS or mask not in grammar.masks or (mask in hypothesis.seen and mask in grammar.once):
            return None
        seen = hypothesis.seen | {mask} if mask in grammar.required else hypothesis.seen
        return Hypothesis(hypothesis.begin, mask, seen, Chain(unit, hypothesis.units), hypothesis.size + 1, new)

    def ended(self, hypotheses: list[Hypothesis]) -> Hypothesis | None:
        """Of the questions that may end here, the longest of those with the fewest new pairs."""
        grammar = self.grammar
        whole = [
            hypothesis
            for hypothesis in hypotheses
            if (hypothesis.last, END) in grammar.pairs
            and not hypothesis.spaced
            and hypothesis.size >= grammar.shortest
            and len(hypothesis.seen) == len(grammar.required)
        ]
        return min(whole, key=lambda hypothesis: hypothesis.new, default=None)

    def behind(self, before: Before, unit: Unit, hypotheses: list[Hypothesis]) -> Before:
        """What stands in front of the next unit."""
        # behind a whole question another one may begin, though its end may look like a join ("1+2=")
        ended = unit.symbol is None and self.ended(hypotheses) is not None
        return START if ended else before.then(unit.text, unit.symbol is not None)


class Scan:
    """The questions that may be under way at one point of a text. Never modified: ``feed`` returns the next one."""

    __slots__ = ("before", "found", "hypotheses", "index", "now", "raw", "reader", "tail")

    def __init__(self, reader: QuestionReader, before: Before = START) -> None:
        self.reader = reader
        self.before = before  # what stands in front of the units that are not taken over yet
        self.now = before  # what stands in front of further text
        self.index = 0  # units taken over
        self.hypotheses: list[Hypothesis] = []
        self.tail = ""  # text that may be the beginning of a unit
        self.raw = ""  # bytes that are the beginning of a character
        self.found: Found | None = None

    def feed(self, raw: str) -> Scan:
        """The scan behind some more bytes."""
        new = Scan(self.reader, self.before)
        text, new.raw = decode(self.raw + raw)
        new.tail, new.index, new.hypotheses = self.tail + text, self.index, self.hypotheses
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
        self.hypotheses, self.before = self._read(units[:done])
        self.index, self.tail = self.index + done, self.tail[end:]
        return done

    def _read(self, units: list[Unit]) -> tuple[list[Hypothesis], Before]:
        """Hypotheses behind these units, and what then stands in front of the next one."""
        hypotheses, before, reader = self.hypotheses, self.before, self.reader
        for i, unit in enumerate(units):
            hypotheses = reader.step(hypotheses, unit, self.index + i, before)
            before = reader.behind(before, unit, hypotheses)
        return hypotheses, before

    def _find(self, rest: list[Unit]) -> None:
        """Read the rest of the text as if it ended here, and see whether a question does."""
        hypotheses, self.now = self._read(rest)
        ended = self.reader.ended(hypotheses)
        if ended is not None:
            units: list[Unit] = []
            chain: Chain | None = ended.units
            while chain is not None:
                units.append(chain.unit)
                chain = chain.before
            self.found = Found(ended.begin, units[::-1])


def _with_lead(unit: Unit, lead: bool) -> Unit:
    """The unit with a leading space or without one."""
    space = " " if lead else ""
    if unit.symbol is None:
        return Unit(space + unit.text.removeprefix(" "))
    return Unit(space + unit.symbol, unit.symbol, space)


def _is_mark(mask: str) -> bool:
    """Whether a mask is structure without letters and digits, such as "+"."""
    return MASK not in mask and bool(mask.strip(" ")) and not any(map(str.isalnum, mask))


def decode(raw: str) -> tuple[str, str]:
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
