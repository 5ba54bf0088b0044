"""Patterns: regular expressions of high precision for what a text's form shows; the probe covers the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from ._normalise import normalise


@dataclass(frozen=True)
class Hit:
    """A pattern that matches a text."""

    category: str
    score: float
    what: str
    """The pattern's name, and the text it matched."""


@dataclass(frozen=True)
class _Pattern:
    category: str
    name: str
    score: float
    expression: re.Pattern[str]
    check: Callable[[str], bool]


def find(text: str) -> list[Hit]:
    """All patterns that match the normalised text, by falling score."""
    plain = normalise(text).casefold()
    hits = []
    for pattern in _patterns():
        match = pattern.expression.search(plain)
        if match and pattern.check(match.group()):
            what = f"{pattern.name}: {match.group()[:80]!r}"
            hits.append(Hit(pattern.category, pattern.score, what))
    return sorted(hits, key=lambda hit: -hit.score)


@cache
def _patterns() -> list[_Pattern]:
    raw = yaml.safe_load((files(__package__) / "data" / "patterns.yaml").read_text(encoding="utf-8"))
    return [
        _Pattern(
            category,
            name,
            float(entry.get("score", 0.9)),
            re.compile(entry["expression"]),
            _CHECKS[entry.get("check")],
        )
        for category, entries in raw.items()
        for name, entry in entries.items()
    ]


def _luhn(text: str) -> bool:
    """Check digit of payment cards."""
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [d if i % 2 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(reversed(digits), 1)]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and sum(doubled) % 10 == 0


def _iban(text: str) -> bool:
    """Check sum of account numbers."""
    packed = re.sub(r"\s", "", text).upper()
    return int("".join(str(int(c, 36)) for c in packed[4:] + packed[:4])) % 97 == 1


_CHECKS: dict[str | None, Callable[[str], bool]] = {None: lambda text: True, "luhn": _luhn, "iban": _iban}
