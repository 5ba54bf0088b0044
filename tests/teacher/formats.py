"""Skills as plain functions: many formats of traces. Each answer is what a perfect teacher would write.

Tables are random where a rule could otherwise be guessed, so that a row can only be learnt from samples.
"""

from __future__ import annotations

import itertools
import random
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from m2kt.probes import Prompt
from m2kt.teacher import Answer, Forced

DIGITS = list("0123456789")
LETTERS = list("pqrstu")


@dataclass(frozen=True)
class Format:
    """A skill: slots, templates, answers, and the rules (arity, rows) that its program must have."""

    slots: dict[str, list[str]]
    templates: list[str]
    answer: Callable[[str], str]
    rules: list[tuple[int, int]]


def table(values: Sequence[str], seed: int, arguments: int = 2) -> dict[tuple[str, ...], str]:
    """A random operation."""
    rng = random.Random(seed)
    return {row: rng.choice(values) for row in itertools.product(values, repeat=arguments)}


def folding(operation: dict[tuple[str, ...], str], by: str = " ") -> Callable[[str], str]:
    """Left to right, every step written: ``a b c:`` -> `` a b = d; d c = e; > e.``"""

    def answer(prompt: str) -> str:
        value, *rest = prompt[:-1].split(by)
        out = ""
        for x in rest:
            out += f" {value} {x} = {operation[value, x]};"
            value = operation[value, x]
        return f"{out} > {value}."

    return answer


def folds(values: list[str], operation: dict[tuple[str, ...], str], by: str = " ") -> Format:
    """Chains of two to four values."""
    templates = [by.join(["{x}"] * n) + ":" for n in (2, 3)]
    return Format({"x": values}, templates, folding(operation, by), [(2, len(values) ** 2)])


def neutral(values: list[str]) -> dict[tuple[str, ...], str]:
    """The first value is neutral: most rows look like a copy of an argument."""
    operation = table(values, 3)
    return operation | {(values[0], v): v for v in values} | {(v, values[0]): v for v in values}


def nearly_left(values: list[str]) -> dict[tuple[str, ...], str]:
    """The left argument, except in three rows."""
    operation = {(a, b): a for a in values for b in values}
    return operation | dict.fromkeys([("q", "p"), ("r", "s"), ("t", "u")], "p")


def noisy(answer: Callable[[str], str], rate: float) -> Callable[[str], str]:
    """A teacher that writes another letter at random, and continues from the right one."""

    def noisy_answer(prompt: str) -> str:
        words = answer(prompt).split(" ")
        for i, word in enumerate(words):
            if word in LETTERS and zlib.crc32(f"{prompt}/{i}".encode()) < rate * 2**32:
                words[i] = LETTERS[(LETTERS.index(word) + 1) % len(LETTERS)]
        return " ".join(words)

    return noisy_answer


def numbered(prompt: str) -> str:
    value, *rest = prompt[:-1].split(" ")
    out = ""
    for i, x in enumerate(rest):
        out += f" {i + 1}) {value},{x} -> {NUMBERED[value, x]}"
        value = NUMBERED[value, x]
    return f"{out} = {value}"


def swapped(prompt: str) -> str:
    """The arguments are swapped in every other step."""
    value, *rest = prompt[:-1].split(" ")
    out = ""
    for i, x in enumerate(rest):
        a, b = (value, x) if i % 2 == 0 else (x, value)
        value = SWAPPED[a, b]
        out += f" {a} {b} {value};"
    return f"{out} {value}"


def until_q(prompt: str) -> str:
    """Ends as soon as a step gives q."""
    value, *rest = prompt[:-1].split(" ")
    out = ""
    for x in rest:
        out += f" {value} {x} {UNTIL[value, x]};"
        value = UNTIL[value, x]
        if value == "q":
            return out + " stop"
    return f"{out} > {value}"


def words(prompt: str) -> str:
    """Digits compared in words until two differ; the next step and the end both begin with a word."""
    first, second = prompt[:-1].split(" vs ")
    out, relation = "", "equal to"
    for a, b in zip(first, second, strict=True):
        relation = "equal to" if a == b else "less than" if a < b else "more than"
        out += f" {a} is {relation} {b};"
        if a != b:
            break
    return out + " so " + {"equal to": "same", "less than": "first smaller", "more than": "first bigger"}[relation]


def windows(prompt: str) -> str:
    """Each step reads three symbols: the last two written and the next of the prompt."""
    a, b, *rest = prompt[:-1].split(" ")
    out = ""
    for c in rest:
        out += f" {a} {b} {c} : {TERNARY[a, b, c]} ;"
        a, b = b, TERNARY[a, b, c]
    return f"{out} {b}"


def lists(prompt: str) -> str:
    left, steps = prompt[:-1], []
    operators = {"MIN": min, "MAX": max, "SUM": lambda a, b: (a + b) % 10}
    while match := re.search(r"\[([A-Z]+) (\d) (\d)([ \d]*)\]", left):
        operator, a, b, rest = match.groups()
        value = operators[operator](int(a), int(b))
        steps.append(f" [{operator} {a} {b}] = {value}")
        new = f"[{operator} {value}{rest}]" if rest else str(value)
        left = left[: match.start()] + new + left[match.end() :]
    return f"{';'.join(steps)} > {left}."


def cups(prompt: str) -> str:
    """A state of five cups, written after each move."""
    state, *moves = prompt[:-1].split(" ")
    steps = []
    for move in moves:
        state = "".join(MOVES[move][int(cup) - 1] for cup in state)
        steps.append(f" {move} {state}")
    return f"{';'.join(steps)} > {state}."


def rewritten(prompt: str) -> str:
    """A formula, rewritten with its first operation replaced by the value until one value is left."""
    left, out = prompt[:-1].split(" "), ""
    while len(left) > 1:
        a, operator, b, *rest = left
        value = {"and": a == b == "T", "or": "T" in (a, b), "xor": a != b}[operator]
        left = ["T" if value else "F", *rest]
        out += " = " + " ".join(left)
    return out + "."


def borrowing(prompt: str) -> str:
    """Schoolbook subtraction; a borrow from the last column is written as a sign."""
    a, b = prompt[:-1].split("-")
    borrow, out, digits = 0, "", ""
    for x, y in zip(a[::-1], b[::-1], strict=True):
        value = int(x) - int(y) - borrow
        out += f"{x}-{y}-{borrow}={value % 4}b{int(value < 0)};"
        borrow, digits = int(value < 0), str(value % 4) + digits
    return f"{out}>{'~' if borrow else ''}{digits}."


TOWNS = ["New Zealand", "New York", "York", "Zealand", "Isle of Man"]
BEGINNINGS = ["a", "ab", "abc", "b", "ba"]
NUMBERED, SWAPPED, UNTIL, TERNARY = (
    table(LETTERS, 5),
    table(LETTERS, 6),
    table(LETTERS, 7),
    table(LETTERS[:4], 8, 3),
)
MOVES = {"a": "21345", "b": "13245", "e": "23451", "g": "54321", "h": "24135"}
CHAINS = ["{x} {x}:", "{x} {x} {x}:", "{x} {x} {x} {x}:"]

FORMATS = {
    "values of several words": folds(TOWNS, table(TOWNS, 1), ", "),
    "values that begin alike": folds(BEGINNINGS, table(BEGINNINGS, 2)),
    "numbers of two digits": folds(
        [str(i) for i in range(12)],
        {(str(a), str(b)): str((a + b) % 12) for a in range(12) for b in range(12)},
    ),
    "a neutral element": folds(LETTERS, neutral(LETTERS)),
    "nearly a copy": folds(LETTERS, nearly_left(LETTERS)),
    "arguments change sides": Format({"x": LETTERS}, CHAINS, swapped, [(2, 36)]),
    "numbered steps": Format({"x": LETTERS}, CHAINS, numbered, [(2, 36)]),
    "an answer that ends early": Format({"x": LETTERS}, CHAINS, until_q, [(2, 36)]),
    "three arguments": Format(
        {"x": LETTERS[:4]},
        ["{x} {x} {x}:", "{x} {x} {x} {x}:", "{x} {x} {x} {x} {x}:"],
        windows,
        [(3, 64)],
    ),
    "nested lists": Format(
        {"d": DIGITS, "o": ["MIN", "MAX", "SUM"]},
        ["[{o} {d} {d} {d}]:", "[{o} {d} [{o} {d} {d}]]:", "[{o} [{o} {d} {d}] [{o} {d} {d}]]:"],
        lists,
        [(3, 300)],
    ),
    "a state of five": Format(
        {"p": list("12345"), "m": list(MOVES)},
        ["{p}{p}{p}{p}{p} {m}:", "{p}{p}{p}{p}{p} {m} {m}:"],
        cups,
        [(2, 25)],
    ),
    "formulas written again": Format(
        {"v": ["T", "F"], "o": ["and", "or", "xor"]},
        ["{v} {o} {v} {o} {v}:", "{v} {o} {v} {o} {v} {o} {v}:"],
        rewritten,
        [(3, 12)],
    ),
    "a borrow and a sign": Format(
        {"d": DIGITS[:4]},
        ["{d}-{d}:", "{d}{d}-{d}{d}:", "{d}{d}{d}-{d}{d}{d}:"],
        borrowing,
        [(3, 32), (3, 32)],
    ),
}


class FunctionOracle:
    """A perfect teacher that writes ``answer``. ``token_ends``: where its tokens end; by default at each character."""

    def __init__(
        self, answer: Callable[[str], str], token_ends: Callable[[str], tuple[int, ...]] | None = None
    ) -> None:
        self.write, self.passes = answer, 0
        self.token_ends = token_ends or (lambda text: tuple(range(1, len(text) + 1)))

    def answer(self, prompts: Sequence[Prompt], stage: str = "") -> tuple[list[Answer], int]:
        """All answers end."""
        self.passes += len(prompts)
        texts = [self.write(p.text) for p in prompts]
        return [Answer(p, text, self.token_ends(text)) for p, text in zip(prompts, texts, strict=True)], 0

    def intended(self, forced: Sequence[Forced], stage: str = "") -> list[list[str | None]]:
        """A mere function cannot be forced."""
        return [[None] * (len(f.units) - f.n_prompt) for f in forced]
