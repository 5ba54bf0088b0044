"""Units: prompts and traces are segmented into them at text level, independent of any tokenizer.

A unit is ``lead + body``. ``lead``, the leading space, is empty or one space and belongs to the structure. ``body`` is
a *symbol* if it is a slot value or a value that the teacher chooses among; else it is structure (";", " >"). ``END``
is a unit that is no text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

Part = Literal["letters", "digits"]
MASK = "□"
_ATOM = re.compile(r"[^\W\d_]+|\d+|\s|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Unit:
    """``text == lead + symbol`` for symbols; ``symbol`` is None for structure."""

    text: str
    symbol: str | None = None
    lead: str = ""

    @property
    def mask(self) -> str:
        """The text, with a symbol replaced by ``MASK``."""
        return self.text if self.symbol is None else self.lead + MASK


class Segmenter:
    """Segments text into units, given the slot values and the symbols discovered so far.

    Words and numbers are units. One that is no symbol and is made of symbols is cut into them where ``apart`` says so:
    "abc" over the slot a..j is three symbols.

    Args:
        apart: which of words ("letters") and numbers ("digits") are cut; if None, those of which every slot value is a
            single character.
        whole: words and numbers that are structure, whatever they are made of.
    """

    def __init__(
        self,
        values: Iterable[str],
        discovered: Iterable[str] = (),
        *,
        apart: Collection[Part] | None = None,
        whole: Iterable[str] = (),
    ) -> None:
        self.values = frozenset(values)
        self.discovered = frozenset(discovered)
        self.lexicon = self.values | self.discovered
        self.whole = frozenset(whole)
        self.apart = frozenset(single_parts(self.values) if apart is None else apart)
        self._units: dict[tuple[str, str], Unit] = {}  # many texts share few units
        # Values of several atoms ("New Zealand", "x1", "->") are matched first, longest first.
        compound = sorted((v for v in self.lexicon if len(_ATOM.findall(v)) > 1), key=len, reverse=True)
        self._compound = re.compile("|".join(_bounded(v) for v in compound)) if compound else None

    def cut(self, text: str) -> list[Unit]:
        """Units of ``text``; their texts concatenate to it exactly."""
        bodies: list[str] = []
        for atom in self._atoms(text, self._compound) if self._compound else _ATOM.findall(text):
            if len(atom) > 1 and self._tiles(atom):
                bodies.extend(atom)
            else:
                bodies.append(atom)
        return self._join_leads(bodies)

    def _atoms(self, text: str, compound: re.Pattern[str]) -> list[str]:
        """Atoms of ``text``; a compound value is one atom."""
        atoms: list[str] = []
        start = 0
        while start < len(text):
            match = compound.match(text, start)
            atom = match.group() if match else _ATOM.match(text, start).group()  # type: ignore[union-attr]
            if not match and len(atom) > 1:
                inner = compound.search(text, start, start + len(atom))
                if inner and inner.start() > start:
                    atom = text[start : inner.start()]
            start += len(atom)
            atoms.append(atom)
        return atoms

    def _tiles(self, atom: str) -> bool:
        cut = "letters" in self.apart if atom.isalpha() else atom.isdigit() and "digits" in self.apart
        return cut and atom not in self.lexicon and atom not in self.whole and all(c in self.lexicon for c in atom)

    def _join_leads(self, bodies: list[str]) -> list[Unit]:
        units: list[Unit] = []
        lead = ""
        for body in bodies:
            if body == " " and lead == "":
                lead = " "
                continue
            if lead and body.isspace():
                units.append(self.unit(lead, ""))
                lead = ""
            units.append(self.unit(body, lead))
            lead = ""
        if lead:
            units.append(self.unit(lead, ""))
        return units

    def unit(self, body: str, lead: str) -> Unit:
        """A unit of ``lead`` and ``body``: a symbol if ``body`` is in the lexicon."""
        unit = self._units.get((lead, body))
        if unit is None:
            is_symbol = body in self.lexicon
            unit = Unit(lead + body, body if is_symbol else None, lead if is_symbol else "")
            self._units[lead, body] = unit
        return unit

    def coarsen(self, units: list[Unit], cuts: Iterable[int]) -> list[Unit]:
        """Join units that one token spans. ``cuts``: character offsets at which a token ends."""
        allowed = set(cuts)
        joined: list[Unit] = []
        buffer, offset = "", 0
        for unit in units:
            buffer += unit.text
            offset += len(unit.text)
            if offset in allowed:
                if buffer == unit.text:
                    joined.append(unit)
                else:
                    lead = " " if buffer.startswith(" ") and len(buffer) > 1 else ""
                    joined.append(self.unit(buffer[len(lead) :], lead))
                buffer = ""
        if buffer:
            joined.append(self.unit(buffer, ""))
        return joined


def single_parts(values: Collection[str]) -> set[Part]:
    """Of letters and digits: of which all values that consist of them are single characters."""
    kinds: dict[Part, list[str]] = {
        "letters": [v for v in values if v.isalpha()],
        "digits": [v for v in values if v.isdigit()],
    }
    return {part for part, found in kinds.items() if found and all(len(v) == 1 for v in found)}


def _bounded(value: str) -> str:
    signed = value[0] in "-+" and value[1:].isdigit()  # "-3" is no value in "5-3"
    left = r"(?<![^\W_])" if value[0].isalnum() else r"(?<![\w)\]])" if signed else ""
    right = r"(?![^\W_])" if value[-1].isalnum() else ""
    return left + re.escape(value) + right
