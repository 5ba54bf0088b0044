"""Rules: regular expressions over word classes, from ``data/rules.txt``; what they find can be named."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from m2kt_content._lexicon import DATA, lexicon

FRAME = "frame"  # lines of the file that recognise talk about a thing


@dataclass(frozen=True)
class Match:
    """A rule that applies to a text."""

    rule: str
    category: str
    score: float


@dataclass(frozen=True)
class _Rule:
    name: str
    category: str
    score: float
    pattern: re.Pattern[str]


def matches(plain: str) -> list[Match]:
    """Rules that a normalised text meets. Talk *about* a thing (reports, quotations) halves what they say."""
    about = any(frame.search(plain) for frame in _frames())
    found = []
    for rule in _rules():
        if rule.pattern.search(plain):
            softened = about and rule.category != "private"
            found.append(Match(rule.name, rule.category, rule.score / 2 if softened else rule.score))
    return found


@cache
def _source() -> tuple[_Rule, ...]:
    """All lines under ``[category score]`` heads; a rule's name is its category and place, for findings."""
    rules: list[_Rule] = []
    category, score = "", 0.0
    for line in (DATA / "rules.txt").read_text(encoding="utf-8").splitlines():
        head = re.fullmatch(r"\[(\w+) ([\d.]+)\]", line)
        if head:
            category, score = head[1], float(head[2])
        elif line and not line.startswith("# "):
            number = sum(rule.category == category for rule in rules)
            rules.append(_Rule(f"{category}.{number}", category, score, _compiled(line)))
    return tuple(rules)


@cache
def _rules() -> tuple[_Rule, ...]:
    return tuple(rule for rule in _source() if rule.category != FRAME)


@cache
def _frames() -> tuple[re.Pattern[str], ...]:
    return tuple(rule.pattern for rule in _source() if rule.category == FRAME)


def _compiled(text: str) -> re.Pattern[str]:
    """``<insult>`` stands for the class, ``~`` for up to four words in between."""
    for name, (whole, starts) in lexicon().items():
        if f"<{name}>" in text:
            ways = [re.escape(w) for w in sorted(whole, key=len, reverse=True)]
            ways += [re.escape(w) + r"[\w'-]*" for w in sorted(starts)]
            text = text.replace(f"<{name}>", rf"\b(?:{'|'.join(ways)})\b")
    return re.compile(text.replace("~", r"\W+(?:[\w'-]+\W+){0,4}?"), re.IGNORECASE)
