"""Rules: regular expressions over classes of words, so that a rule for *insult* or *group* covers new words.

``data/lexicon.yaml`` lists the classes, ``data/rules.txt`` the rules. A rule that matches can be named to the user.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

DATA = Path(__file__).parent / "data"
FRAME = "frame"
"""Category of the rules that recognise text *about* a subject: reports and quotations."""
_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")


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


# -- word classes -----------------------------------------------------------------------------------------------------
@cache
def lexicon() -> dict[str, tuple[frozenset[str], tuple[str, ...]]]:
    """For each class, its whole words and its prefixes of words."""
    classes = yaml.safe_load((DATA / "lexicon.yaml").read_text(encoding="utf-8"))
    split = {}
    for name, words in classes.items():
        # YAML 1.1 reads an unquoted "true" as a value; str keeps classes strings
        entries = str(words).lower().split()
        whole = frozenset(w for w in entries if not w.endswith("*"))
        split[name] = (whole, tuple(w[:-1] for w in entries if w.endswith("*")))
    return split


@cache
def classes_of(word: str) -> tuple[str, ...]:
    """The classes of a lower-case word."""
    bare = word.removesuffix("'s")
    return tuple(
        name
        for name, (whole, prefixes) in lexicon().items()
        if word in whole or bare in whole or (prefixes and bare.startswith(prefixes))
    )


def words_of(text: str) -> list[str]:
    """The words of a text, lower-case."""
    return _WORD.findall(text.lower())


# -- rules ------------------------------------------------------------------------------------------------------------
def matches(plain: str) -> list[Match]:
    """Rules that match a normalised text. In text about a subject, all scores but those of private data are halved."""
    framed = any(rule.pattern.search(plain) for rule in _rules() if rule.category == FRAME)
    return [
        Match(rule.name, rule.category, rule.score / 2 if framed and rule.category != "private" else rule.score)
        for rule in _rules()
        if rule.category != FRAME and rule.pattern.search(plain)
    ]


@cache
def _rules() -> tuple[_Rule, ...]:
    """All lines under ``[category score]`` heads; a rule's name is its category and its number there."""
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


def _compiled(text: str) -> re.Pattern[str]:
    """``<insult>`` is any word of the class, ``~`` up to four words in between."""
    for name, (whole, prefixes) in lexicon().items():
        if f"<{name}>" in text:
            alternatives = [re.escape(w) for w in sorted(whole, key=len, reverse=True)]
            alternatives += [re.escape(w) + r"[\w'-]*" for w in sorted(prefixes)]
            text = text.replace(f"<{name}>", rf"\b(?:{'|'.join(alternatives)})\b")
    return re.compile(text.replace("~", r"\W+(?:[\w'-]+\W+){0,4}?"), re.IGNORECASE)
