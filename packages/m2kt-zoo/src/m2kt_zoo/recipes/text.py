"""Generic symbol text on which the pico students are pretrained.

Every document shows one operation on random symbols (copy, reverse, select by position, look up...), several times with
the same delimiters, so that the operation can be inferred from the context. There are no sums, no fixed tables and no
words of any language: no skill of a teacher.

A document is a list of pieces ``(text, determined)``; determined text has most of the weight in the loss.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable

import numpy as np

Piece = tuple[str, bool]
Document = list[Piece]
Items = list[str]
Rng = np.random.Generator

LOWER, DIGITS, MARKS = string.ascii_lowercase, string.digits, "+-*/=<>:;.,|#@&%$!?~^_"
ALPHABETS = (LOWER, LOWER, DIGITS, LOWER[:10], LOWER + DIGITS, string.ascii_uppercase, string.ascii_letters)
JOINERS = ("", "", " ", " ", ",", "+", "-", ", ", ".", "|", " - ", "/")
ARROWS = (":", ":", "=", ">", " > ", ": ", " = ", "->", ": ", ">")
ENDS = (";", "; ", ".\n", "\n", ", ", " ", ".", " | ")


def pick(rng: Rng, options: str | tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def word(rng: Rng) -> str:
    """A random word of syllables or of letters."""
    if rng.random() < 0.6:
        syllables = int(rng.integers(1, 5))
        letters = "".join(pick(rng, "bcdfghjklmnprstvwz") + pick(rng, "aeiou") for _ in range(syllables))
        return letters + (pick(rng, "nrstl") if rng.random() < 0.5 else "")
    return "".join(pick(rng, LOWER) for _ in range(int(rng.integers(2, 8))))


class Symbols:
    """The symbols of one document: characters of one alphabet, or a few random words.

    In most documents the symbols of a list differ, so that a symbol determines its position; that is easier to learn.
    """

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.long = bool(rng.random() < 0.25)
        words = [word(rng) for _ in range(8)]
        self.symbols = list(dict.fromkeys(words if self.long else pick(rng, ALPHABETS)))
        self.distinct = bool(rng.random() < 0.75)

    def draw(self) -> str:
        return self.symbols[int(self.rng.integers(len(self.symbols)))]

    def take(self, minimum: int, maximum: int) -> Items:
        n = min(int(self.rng.integers(minimum, maximum + 1)), len(self.symbols))
        if not self.distinct:
            return [self.draw() for _ in range(n)]
        return [self.symbols[i] for i in self.rng.permutation(len(self.symbols))[:n]]

    def separator(self) -> str:
        """The separator of the symbols of a list: a mark, a space, or a short word."""
        if self.rng.random() < 0.08:
            return f" {word(self.rng)[:3]} "
        return pick(self.rng, JOINERS) or " " * self.long


# Operations on a list of symbols. `k` is drawn once per document.
OPERATIONS: dict[str, Callable[[Items, int], Items]] = {
    "copy": lambda s, k: s,
    "reverse": lambda s, k: s[::-1],
    "first": lambda s, k: s[:1],
    "last": lambda s, k: s[-1:],
    "nth": lambda s, k: s[k % len(s) :][:1],
    "sort": lambda s, k: sorted(s),
    "double": lambda s, k: [x for x in s for _ in "ab"],
    "rotate": lambda s, k: s[1:] + s[:1],
    "even": lambda s, k: s[::2],
    "tail": lambda s, k: s[1:],
}


def mapped(rng: Rng, name: str, examples: int) -> Document:
    """``abc:cba;xyz:zyx;...`` for one operation; most documents start with its name."""
    symbols = Symbols(rng)
    joiner, arrow, end = symbols.separator(), pick(rng, ARROWS), pick(rng, ENDS)
    k, maximum = int(rng.integers(4)), 5 if symbols.long else 8
    named = rng.random() < 0.75
    pieces: Document = [(f"{name}{k if name == 'nth' else ''}|", False)] if named else []
    for i in range(examples):
        items = symbols.take(2, maximum)
        answer = joiner.join(OPERATIONS[name](items, k))
        pieces += [(joiner.join(items) + arrow, False), (answer, named or i > 0), (end, i > 0)]
    return pieces


def zipped(rng: Rng, name: str, examples: int) -> Document:
    """Two lists side by side, paired from the left or from the right: ``abc|xyz:a-x,b-y,c-z``."""
    symbols = Symbols(rng)
    joiner, between, arrow = " " * symbols.long, pick(rng, MARKS), pick(rng, ARROWS)
    pair, comma, end = symbols.separator(), pick(rng, ENDS[:2]), pick(rng, ENDS)
    suffix = "" if rng.random() < 0.6 else pick(rng, MARKS) + symbols.draw()
    pieces: Document = [(f"{name}|", False)]
    for i in range(examples):
        left = symbols.take(1, 3 if symbols.long else 5)
        right = [symbols.draw() for _ in left]
        pairs = [f"{a}{pair}{b}{suffix}" for a, b in zip(left, right, strict=True)]
        answer = comma.join(pairs[::-1] if name == "zip-right" else pairs)
        pieces += [
            (joiner.join(left) + between + joiner.join(right) + arrow, False),
            (answer, i > 0),
            (end, i > 0),
        ]
    return pieces


def windows(rng: Rng, name: str, examples: int) -> Document:
    """Neighbours in order, from the left or from the right: ``a b c d: a b; b c; c d.``"""
    symbols = Symbols(rng)
    joiner, arrow, comma, end = symbols.separator(), pick(rng, ARROWS), pick(rng, ENDS[:2]), pick(rng, ENDS)
    pieces: Document = [(f"{name}|", False)]
    for i in range(examples):
        items = symbols.take(2, 5)
        pairs = [joiner.join(pair) for pair in itertools.pairwise(items)]
        answer = comma.join(pairs[::-1] if name == "windows-right" else pairs)
        pieces += [(joiner.join(items) + arrow, False), (answer, i > 0), (end, i > 0)]
    return pieces


def lookup(rng: Rng, name: str, examples: int) -> Document:
    """Random pairs, then queries of them: ``q:7 x:2 a:7 | x:2 a:7``."""
    symbols, values = Symbols(rng), Symbols(rng)
    equals, end = pick(rng, ARROWS), pick(rng, ENDS)
    joiner = symbols.separator() if rng.random() < 0.3 else ""
    keys = list(dict.fromkeys(joiner.join(symbols.take(1, 2)) for _ in range(int(rng.integers(2, 9)))))
    table = {key: values.draw() for key in keys}
    pieces: Document = []
    for key, value in table.items():
        pieces += [(key, False), (equals, len(pieces) > 3), (value, False), (end, len(pieces) > 3)]
    for _ in range(2 * examples):
        key = keys[int(rng.integers(len(keys)))]
        pieces += [(key, False), (equals, True), (table[key], True), (end, True)]
    return pieces[:-1]


def chase(rng: Rng, name: str, examples: int) -> Document:
    """Shuffled links, then the chain that they form: ``b>c a>b c>d: a>b>c>d``."""
    names = list(LOWER) if rng.random() < 0.6 else list(dict.fromkeys(word(rng) for _ in range(12)))
    chain = [names[i] for i in rng.permutation(len(names))[: int(rng.integers(3, 6))]]
    arrow, end = pick(rng, (">", "-", " to ", "=", ":")), pick(rng, ENDS[:2])
    links = [a + arrow + b for a, b in itertools.pairwise(chain)]
    shuffled = end.join(links[i] for i in rng.permutation(len(links)))
    return [(f"{shuffled} | {chain[0]}", False), (arrow + arrow.join(chain[1:]), True), (end, True)]


def repeated(rng: Rng, name: str, examples: int) -> Document:
    """A random text, repeated."""
    alphabet = pick(rng, (string.printable[:95], LOWER + " ", LOWER + DIGITS + MARKS, LOWER[:6]))
    text = "".join(pick(rng, alphabet) for _ in range(int(rng.integers(2, 25))))
    if rng.random() < 0.4:
        text = " ".join(word(rng) for _ in range(int(rng.integers(1, 5)))) + " "
    return [(text, False), (text[:2], False), (text[2:], True), (text * examples, True)]


def brackets(rng: Rng, name: str, examples: int) -> Document:
    """Nested brackets around letters; the closing brackets follow the mark ``|`` and are determined."""
    pieces: Document = []
    for _ in range(examples):
        opened = [pick(rng, "([{<") for _ in range(int(rng.integers(2, 8)))]
        closed = "".join({"(": ")", "[": "]", "{": "}", "<": ">"}[b] for b in reversed(opened))
        pieces += [("".join(b + (pick(rng, LOWER) if rng.random() < 0.3 else "") for b in opened) + "|", False)]
        pieces += [(closed, True), ("\n", True)]
    return pieces


def counted(rng: Rng, name: str, examples: int) -> Document:
    """The number of equal symbols: ``xxxx=4``."""
    equals, end = pick(rng, ARROWS), pick(rng, ENDS)
    pieces: Document = []
    for i in range(examples + 1):
        n = int(rng.integers(1, 10))
        pieces += [(pick(rng, LOWER + MARKS) * n + equals, False), (str(n), i > 0), (end, i > 0)]
    return pieces


TASKS: dict[str, tuple[Callable[[Rng, str, int], Document], float]] = {
    **dict.fromkeys(OPERATIONS, (mapped, 0.4)),
    "copy": (mapped, 3.0),
    "reverse": (mapped, 2.5),
    "zip": (zipped, 1.0),
    "zip-right": (zipped, 2.0),
    "windows": (windows, 1.5),
    "windows-right": (windows, 1.5),
    "lookup": (lookup, 4.0),
    "chase": (chase, 1.0),
    "repeated": (repeated, 4.0),
    "brackets": (brackets, 0.5),
    "counted": (counted, 0.5),
}
NAMES = tuple(TASKS)
SHARES = np.array([share for _, share in TASKS.values()]) / sum(share for _, share in TASKS.values())


def document(rng: Rng, name: str | None = None, examples: int | None = None) -> Document:
    """One document of the named operation, or of an operation drawn by its share."""
    name = name or NAMES[int(rng.choice(len(NAMES), p=SHARES))]
    return TASKS[name][0](rng, name, examples or int(rng.integers(2, 5)))


def page(rng: Rng, characters: int) -> Document:
    """Documents, one on each line, until they have `characters` characters."""
    pieces: Document = []
    while sum(len(text) for text, _ in pieces) < characters:
        pieces += [*document(rng), ("\n", False)]
    return pieces
