"""Prompt templates: literal text with ``{slot}`` and ``{name=slot}`` holes."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from m2kt.errors import SpecError
from m2kt.probes._units import MASK, Unit

_HOLE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


@dataclass(frozen=True)
class Prompt:
    """An unlabelled prompt. ``units`` concatenate to ``text``."""

    text: str
    template: int
    held_out: bool
    units: tuple[Unit, ...]


@dataclass(frozen=True)
class Hole:
    """A hole in a template: ``slot`` names its values; holes of equal ``name`` get equal values.

    ``lead`` is the leading space: empty or one space.
    """

    slot: str
    name: str | None
    lead: str


class Template:
    """A parsed template."""

    def __init__(self, text: str, slots: Mapping[str, Sequence[str]]) -> None:
        self.text = text
        self.parts: list[str | Hole] = []
        literal, end = "", 0
        for match in _HOLE.finditer(text):
            literal += text[end : match.start()]
            end = match.end()
            if match.group() in ("{{", "}}"):
                literal += match.group()[0]
                continue
            name, _, slot = match.group(1).rpartition("=")
            if slot not in slots:
                raise SpecError(
                    f"template {text!r}: slot {slot!r} is not defined; expected one of {', '.join(sorted(slots))}"
                )
            lead = " " if literal.endswith(" ") else ""
            if literal[: len(literal) - len(lead)]:
                self.parts.append(literal[: len(literal) - len(lead)])
            self.parts.append(Hole(slot, name or None, lead))
            literal = ""
        literal += text[end:]
        if "{" in _HOLE.sub("", text) or "}" in _HOLE.sub("", text):
            raise SpecError(f"template {text!r}: a single brace; write {{{{ or }}}} for a brace in the text")
        if literal:
            self.parts.append(literal)
        self.holes = [p for p in self.parts if isinstance(p, Hole)]
        if not self.holes:
            raise SpecError(f"template {text!r} has no slot; add a {{slot}}")
        self._slots = slots
        # Each free choice is one unnamed hole, or all holes of one name together.
        self._choices: list[str] = []
        self._choice_of_hole: list[int] = []
        named: dict[str, int] = {}
        for hole in self.holes:
            if hole.name is not None and hole.name in named:
                choice = named[hole.name]
                if self._choices[choice] != hole.slot:
                    raise SpecError(f"template {text!r}: the name {hole.name!r} is used for two slots")
            else:
                choice = len(self._choices)
                self._choices.append(hole.slot)
                if hole.name is not None:
                    named[hole.name] = choice
            self._choice_of_hole.append(choice)
        self._values = [slots[slot] for slot in self._choices]
        self._drawn_from = sorted(set(self._choices))
        pieces = [p.replace("%", "%%") if isinstance(p, str) else p.lead.replace("%", "%%") + "%s" for p in self.parts]
        self._format = "".join(pieces)
        # Thousands of prompts share their units: one for each text between holes, one for each hole and value.
        self._units_of_part = [
            Unit(p) if isinstance(p, str) else {v: Unit(p.lead + v, v, p.lead) for v in slots[p.slot]}
            for p in self.parts
        ]

    @property
    def space(self) -> int:
        """Number of distinct prompts."""
        return prod(map(len, self._values))

    @property
    def masks(self) -> tuple[str, ...]:
        """The masks of the units of every prompt."""
        return tuple(p if isinstance(p, str) else p.lead + MASK for p in self.parts)

    def every(self) -> list[tuple[str, ...]]:
        """All assignments, one value per free choice."""
        return list(product(*self._values))

    def draw(self, rng: random.Random, *, skewed: bool = False) -> tuple[str, ...]:
        """A random assignment, one value per free choice; ``skewed``: from two random values per slot."""
        if not skewed:
            return tuple(map(rng.choice, self._values))
        few = {s: rng.choices(self._slots[s], k=2) for s in self._drawn_from}
        return tuple([rng.choice(few[s]) for s in self._choices])

    def text_of(self, values: Sequence[str]) -> str:
        """The text of :meth:`fill` at a fraction of its cost: most drawn texts only need their split."""
        return self._format % tuple([values[choice] for choice in self._choice_of_hole])

    def fill(self, values: Sequence[str], *, template: int, held_out: bool) -> Prompt:
        """The prompt for ``values``, one per free choice."""
        chosen = iter(self._choice_of_hole)
        units = tuple([u if isinstance(u, Unit) else u[values[next(chosen)]] for u in self._units_of_part])
        return Prompt("".join([u.text for u in units]), template, held_out, units)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """One group per free choice."""
        pattern, hole_index = "", 0
        seen: set[int] = set()
        for part in self.parts:
            if isinstance(part, str):
                pattern += re.escape(part)
                continue
            choice = self._choice_of_hole[hole_index]
            values = "|".join(map(re.escape, self._slots[part.slot]))
            pattern += part.lead + (f"(?P=c{choice})" if choice in seen else f"(?P<c{choice}>{values})")
            seen.add(choice)
            hole_index += 1
        return re.compile(pattern)

    def read(self, text: str, *, template: int, held_out: bool) -> Prompt | None:
        """The prompt with this text, or None where the template has no such prompt: the inverse of :meth:`fill`."""
        match = self._pattern.fullmatch(text)
        return None if match is None else self.fill(match.groups(), template=template, held_out=held_out)
