"""Units: the atoms in which prompts and traces are read, at text level and so independent of any tokenizer.

A unit is ``lead + body``: ``lead`` is "" or one space and belongs to the structure; ``body`` is a *symbol* when the
skill speaks of it (a slot value, or something the teacher was seen to choose), else it is structure (";", " >").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MASK = "□"
_ATOM = re.compile(r"[^\W\d_]+|\d+|\s|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Unit:
    """One atom of a trace. ``text == lead + symbol`` for symbols; ``symbol`` is None for structure."""

    text: str
    symbol: str | None = None
    lead: str = ""

    @property
    def mask(self) -> str:
        """What is left of this unit in a skeleton: symbols become a box, structure stays."""
        return self.text if self.symbol is None else self.lead + MASK


class Segmenter:
    """Cuts text into units, given the slot values and the symbols discovered so far.

    Letters and digits are read one by one where every slot value of their class is a single character ("abc" over
    the slot a..j is three symbols), and as whole words or numbers otherwise.
    """

    def __init__(self, values: Iterable[str], discovered: Iterable[str] = ()) -> None:
        self.values = frozenset(values)
        self.discovered = frozenset(discovered)
        self.lexicon = self.values | self.discovered
        self._units: dict[tuple[str, str], Unit] = {}  # texts are many and made of the same few
        self._tiles_letters = _all_single(v for v in self.values if v.isalpha())
        self._tiles_digits = _all_single(v for v in self.values if v.isdigit())
        # Values that the atoms below would cut ("New Zealand", "x1", "->") are looked for first, longest first.
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
        """Atoms with the compounds in one piece, each of which is in the lexicon."""
        atoms: list[str] = []
        at = 0
        while at < len(text):
            match = compound.match(text, at)
            atom = match.group() if match else _ATOM.match(text, at).group()  # type: ignore[union-attr]
            if not match and len(atom) > 1:
                inner = compound.search(text, at, at + len(atom))
                if inner and inner.start() > at:
                    atom = text[at : inner.start()]
            at += len(atom)
            atoms.append(atom)
        return atoms

    def _tiles(self, atom: str) -> bool:
        single = self._tiles_letters if atom.isalpha() else self._tiles_digits if atom.isdigit() else False
        return single and atom not in self.lexicon and all(c in self.lexicon for c in atom)

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
        """A unit of ``body`` behind ``lead``: a symbol exactly where the lexicon has it."""
        known = self._units.get((lead, body))
        if known is None:
            inside = body in self.lexicon
            known = Unit(lead + body, body if inside else None, lead if inside else "")
            self._units[lead, body] = known
        return known

    def coarsen(self, units: list[Unit], cuts: Iterable[int]) -> list[Unit]:
        """Joins units that one token spans. ``cuts``: character offsets at which some token ends."""
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


def _all_single(values: Iterable[str]) -> bool:
    listed = list(values)
    return bool(listed) and all(len(v) == 1 for v in listed)


def _bounded(value: str) -> str:
    left = r"(?<![^\W_])" if value[0].isalnum() else ""
    right = r"(?![^\W_])" if value[-1].isalnum() else ""
    return left + re.escape(value) + right
