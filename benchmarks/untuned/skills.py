"""Candidate skills: how each is asked, how its steps are to be written, and what is right.

A skill is asked in two forms. *Shown*: questions with their written steps stand before the question; these are labelled
examples. *Told*: a system message says what to write, and nothing is shown.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

LETTERS, DIGITS = list(string.ascii_lowercase), list(string.digits)
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
WORDS = [
    "cat",
    "dog",
    "sun",
    "map",
    "pen",
    "cup",
    "hat",
    "box",
    "key",
    "fox",
    "jam",
    "owl",
    "bus",
    "leg",
    "ant",
    "ice",
    "egg",
    "yak",
    "zip",
    "van",
]
COMPASS, TURNS = ["north", "east", "south", "west"], {"left": -1, "right": 1, "back": 2}
PAIRS = [
    "hot",
    "cold",
    "big",
    "small",
    "up",
    "down",
    "good",
    "bad",
    "open",
    "closed",
    "old",
    "new",
    "fast",
    "slow",
    "high",
    "low",
    "wet",
    "dry",
]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ROMAN = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"]
BEATS = {("rock", "scissors"), ("scissors", "paper"), ("paper", "rock")}
FLIPPED = {"heads": "tails", "tails": "heads"}

Steps = Callable[[Sequence[str]], str]
"""From the values in a question to what is to be written."""


@dataclass(frozen=True)
class Skill:
    """A candidate."""

    name: str
    slots: Mapping[str, Sequence[str]]
    templates: tuple[str, ...]
    """Of increasing size."""
    longer: str
    """A size that is never shown and never probed."""
    written: Steps
    told: str
    """The system message of the form without examples."""


def _each(table: Callable[[str], str]) -> Steps:
    """A line for each item."""
    return lambda values: "\n".join(f"{value} -> {table(value)}" for value in values)


def _fold(step: Callable[[str, str], str]) -> Steps:
    """A line for each item that changes a state; the first value is the first state."""

    def written(values: Sequence[str]) -> str:
        state, lines = values[0], []
        for value in values[1:]:
            new = step(state, value)
            lines.append(f"{state}, {value} -> {new}")
            state = new
        return "\n".join([*lines, f"Answer: {state}"])

    return written


def _cycle(names: Sequence[str], by: int) -> Callable[[str], str]:
    return lambda name: names[(names.index(name) + by) % len(names)]


def _walk(names: Sequence[str]) -> Steps:
    def written(values: Sequence[str]) -> str:
        place = names.index(values[1])
        passed = [names[(place + i) % len(names)] for i in range(int(values[0]) + 1)]
        return "\n".join([*(f"{a} -> {b}" for a, b in pairwise(passed)), f"Answer: {passed[-1]}"])

    return written


def _count(values: Sequence[str]) -> str:
    wanted, *items = values
    lines = [f"{item} -> {items[: i + 1].count(wanted)}" for i, item in enumerate(items)]
    return "\n".join([*lines, f"Answer: {items.count(wanted)}"])


def _parity(values: Sequence[str]) -> str:
    lines = [f"{v} -> {'odd' if values[: i + 1].count('1') % 2 else 'even'}" for i, v in enumerate(values)]
    return "\n".join([*lines, f"Answer: {lines[-1].split()[-1]}"])


def _index(values: Sequence[str]) -> str:
    place, *items = values
    return "\n".join([*(f"{i}: {item}" for i, item in enumerate(items)), f"Answer: {items[int(place)]}"])


def _reverse(values: Sequence[str]) -> str:
    return "\n".join(reversed(values))


def _boolean(values: Sequence[str]) -> str:
    state, lines = values[0], []
    for word, other in zip(values[1::2], values[2::2], strict=True):
        both = state == "True", other == "True"
        new = str(all(both) if word == "and" else any(both))
        lines.append(f"{state} {word} {other} -> {new}")
        state = new
    return "\n".join([*lines, f"Answer: {state}"])


def _better(one: str, other: str) -> str:
    return one if one == other or (one, other) in BEATS else other


def _turned(state: str, turn: str) -> str:
    return COMPASS[(COMPASS.index(state) + TURNS[turn]) % 4]


def _seen(values: Sequence[str]) -> str:
    return "\n".join(f"{v} -> {'old' if v in values[:i] else 'new'}" for i, v in enumerate(values))


def _of(
    name: str,
    head: str,
    slots: Mapping[str, Sequence[str]],
    written: Steps,
    told: str,
    *,
    hole: str = "{x}",
    first: str = "",
    sizes: tuple[int, ...] = (2, 3, 4),
    gap: str = ", ",
) -> Skill:
    """A skill over lists of several sizes."""
    texts = [f"{head}: {first}{gap.join([hole] * n)}" for n in (*sizes, sizes[-1] + 1)]
    return Skill(name, slots, tuple(texts[:-1]), texts[-1], written, told)


def _lines(what: str) -> str:
    return f"For each item write one line: the item, an arrow ->, and {what}. Write nothing else."


def _fold_lines(what: str) -> str:
    return (
        "Go through the items one at a time. For each write one line: the state, a comma, the item, an arrow ->, and "
        f"the new state. {what} Then write Answer: and the last state."
    )


SKILLS = [
    _of(
        "next-letter",
        "next letter",
        {"x": LETTERS[:-1]},
        _each(_cycle(LETTERS, 1)),
        _lines("the next letter of the alphabet"),
    ),
    _of(
        "letter-before",
        "letter before",
        {"x": LETTERS[1:]},
        _each(_cycle(LETTERS, -1)),
        _lines("the letter before it in the alphabet"),
    ),
    _of("capital-letter", "capital letter", {"x": LETTERS}, _each(str.upper), _lines("its capital letter")),
    _of("next-day", "next day", {"x": DAYS}, _each(_cycle(DAYS, 1)), _lines("the day after it")),
    _of("day-before", "day before", {"x": DAYS}, _each(_cycle(DAYS, -1)), _lines("the day before it")),
    _of("next-month", "next month", {"x": MONTHS}, _each(_cycle(MONTHS, 1)), _lines("the month after it")),
    _of("plus-one", "plus one", {"x": DIGITS}, _each(lambda v: str(int(v) + 1)), _lines("the number plus one")),
    _of("double", "double", {"x": DIGITS}, _each(lambda v: str(2 * int(v))), _lines("its double")),
    _of(
        "even-odd",
        "even or odd",
        {"x": DIGITS},
        _each(lambda v: "odd" if int(v) % 2 else "even"),
        _lines("even or odd"),
    ),
    _of("last-letter", "last letter", {"x": WORDS}, _each(lambda v: v[-1]), _lines("its last letter")),
    _of("first-letter", "first letter", {"x": WORDS}, _each(lambda v: v[0]), _lines("its first letter")),
    _of("spell", "spell", {"x": WORDS}, _each(" ".join), _lines("its letters with spaces between")),
    _of("opposite", "opposite", {"x": PAIRS}, _each(lambda v: PAIRS[PAIRS.index(v) ^ 1]), _lines("its opposite")),
    _of("roman", "Roman numeral", {"x": DIGITS[1:]}, _each(lambda v: ROMAN[int(v) - 1]), _lines("its Roman numeral")),
    _of("number-word", "in words", {"x": DIGITS}, _each(lambda v: NUMBERS[int(v)]), _lines("its name in words")),
    _of(
        "largest",
        "largest",
        {"x": DIGITS},
        _fold(max),
        _fold_lines("The state is the largest number so far."),
        sizes=(3, 4, 5),
    ),
    _of(
        "smallest",
        "smallest",
        {"x": DIGITS},
        _fold(min),
        _fold_lines("The state is the smallest number so far."),
        sizes=(3, 4, 5),
    ),
    _of(
        "coin",
        "coin",
        {"s": list(FLIPPED), "x": ["flip", "keep"]},
        _fold(lambda s, v: FLIPPED[s] if v == "flip" else s),
        _fold_lines("The state is heads or tails."),
        first="{s}, ",
    ),
    _of(
        "compass",
        "compass",
        {"s": COMPASS, "x": list(TURNS)},
        _fold(_turned),
        _fold_lines("The state is a direction."),
        first="{s}, ",
    ),
    _of(
        "rock",
        "rock paper scissors",
        {"x": ["rock", "paper", "scissors"]},
        _fold(_better),
        _fold_lines("The state is the winner so far."),
        sizes=(3, 4, 5),
    ),
    _of(
        "sum",
        "sum",
        {"x": DIGITS[:6]},
        _fold(lambda a, b: str(int(a) + int(b))),
        _fold_lines("The state is the sum so far."),
        sizes=(2, 3, 4),
    ),
    _of(
        "last-digit",
        "sum modulo 10",
        {"x": DIGITS},
        _fold(lambda a, b: str((int(a) + int(b)) % 10)),
        _fold_lines("The state is the last digit of the sum so far."),
        sizes=(2, 3, 4),
    ),
    _of(
        "boolean",
        "evaluate",
        {"x": ["True", "False"], "o": ["and", "or"]},
        _boolean,
        _fold_lines("The state is True or False."),
        hole="{o} {x}",
        first="{x} ",
        gap=" ",
        sizes=(1, 2, 3),
    ),
    _of(
        "parity",
        "parity",
        {"x": ["0", "1"]},
        _parity,
        _lines("whether the number of ones so far is odd or even"),
        sizes=(3, 4, 5),
    ),
    _of(
        "count",
        "count",
        {"x": ["a", "b", "c"]},
        _count,
        _lines("how many were found so far"),
        first="{x} in ",
        sizes=(3, 4, 5),
    ),
    _of(
        "days-later",
        "days after",
        {"x": DAYS, "n": DIGITS[1:6]},
        _walk(DAYS),
        _lines("the next day"),
        hole="{n} days after {x}",
        sizes=(1,),
    ),
    _of(
        "months-later",
        "months after",
        {"x": MONTHS, "n": DIGITS[1:6]},
        _walk(MONTHS),
        _lines("the next month"),
        hole="{n} months after {x}",
        sizes=(1,),
    ),
    _of(
        "item",
        "item",
        {"x": LETTERS, "n": DIGITS[:3]},
        _index,
        "Number the items from 0, one line each. Then write Answer: and the item that is asked.",
        first="{n} of ",
        sizes=(3, 4),
    ),
    _of(
        "reverse",
        "reverse",
        {"x": WORDS},
        _reverse,
        "Write the items in reverse order, one line each. Write nothing else.",
        sizes=(3, 4, 5),
    ),
    _of(
        "seen",
        "new or old",
        {"x": LETTERS[:6]},
        _seen,
        _lines("whether it is new or old in this list"),
        sizes=(3, 4, 5),
    ),
]
