"""Generic symbol text on which the pico students are pretrained.

Every document shows one operation on random symbols (copy, reverse, select by position, look up...), several times with
the same delimiters, so that what is asked can be read from the context. There are no sums, no fixed tables and no
words of any language: nothing of what the teachers can do.

A document is a list of pieces ``(text, determined)``; only determined text is worth much of the loss.
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
    """A random word: syllables, or mere letters."""
    if rng.random() < 0.6:
        syllables = int(rng.integers(1, 5))
        made = "".join(pick(rng, "bcdfghjklmnprstvwz") + pick(rng, "aeiou") for _ in range(syllables))
        return made + (pick(rng, "nrstl") if rng.random() < 0.5 else "")
    return "".join(pick(rng, LOWER) for _ in range(int(rng.integers(2, 8))))


def symbol_source(rng: Rng) -> tuple[Callable[[], str], bool]:
    """A way of drawing symbols for one document, and whether they are longer than one character."""
    if rng.random() < 0.3:
        words = [word(rng) for _ in range(int(rng.integers(4, 12)))]
        return (lambda: words[int(rng.integers(len(words)))]), True
    alphabet = pick(rng, ALPHABETS)
    return (lambda: pick(rng, alphabet)), False


def glue(rng: Rng) -> str:
    """What stands between the symbols of a list: a mark, a space, or a little word."""
    return f" {word(rng)[:3]} " if rng.random() < 0.15 else pick(rng, JOINERS)


# Operations on a list of symbols. `k` is drawn once a document.
OPERATIONS: dict[str, Callable[[Items, int], Items]] = {
    "copy": lambda s, k: s,
    "reverse": lambda s, k: s[::-1],
    "first": lambda s, k: s[:1],
    "last": lambda s, k: s[-1:],
    "nth": lambda s, k: s[k % len(s) :][:1],
    "from the end": lambda s, k: s[len(s) - 1 - k % len(s) :][:1],
    "sort": lambda s, k: sorted(s),
    "double": lambda s, k: [x for x in s for _ in "ab"],
    "rotate": lambda s, k: s[1:] + s[:1],
    "every second": lambda s, k: s[::2],
    "without the first": lambda s, k: s[1:],
}


def mapped(rng: Rng, name: str, examples: int) -> Document:
    """``abc:cba;xyz:zyx;...`` for one operation; sometimes it is named in front."""
    draw, long = symbol_source(rng)
    joiner, arrow, end = glue(rng), pick(rng, ARROWS), pick(rng, ENDS)
    if long and joiner == "":
        joiner = " "
    k, most = int(rng.integers(4)), 5 if long else 8
    named = rng.random() < 0.5
    pieces: Document = (
        [(f"{name}{f' {k}' if name in ('nth', 'from the end') else ''}| ", False)] if named else []
    )
    for i in range(examples):
        items = [draw() for _ in range(int(rng.integers(2, most + 1)))]
        known = named or i > 0
        pieces += [
            (joiner.join(items) + arrow, False),
            (joiner.join(OPERATIONS[name](items, k)), known),
            (end, i > 0),
        ]
    return pieces


def zipped(rng: Rng, name: str, examples: int) -> Document:
    """Two lists side by side, paired from the left or from the right: ``abc|xyz:a-x,b-y,c-z``."""
    draw, long = symbol_source(rng)
    joiner = " " if long else pick(rng, ("", "", " "))
    between, arrow, pair, comma, end = (
        pick(rng, MARKS),
        pick(rng, ARROWS),
        glue(rng),
        pick(rng, ENDS[:2]),
        pick(rng, ENDS),
    )
    fixed = "" if rng.random() < 0.5 else pick(rng, MARKS) + draw()
    pieces: Document = []
    for i in range(examples):
        n = int(rng.integers(1, 4 if long else 6))
        left, right = [draw() for _ in range(n)], [draw() for _ in range(n)]
        pairs = list(zip(left, right, strict=True))
        if name == "zip from the right":
            pairs.reverse()
        pieces += [
            (joiner.join(left) + between + joiner.join(right) + arrow, False),
            (comma.join(f"{a}{pair}{b}{fixed}" for a, b in pairs), i > 0),
            (end, i > 0),
        ]
    return pieces


def windows(rng: Rng, name: str, examples: int) -> Document:
    """Neighbours in order, from the left or from the right: ``a b c d: a b; b c; c d.``"""
    draw, long = symbol_source(rng)
    joiner, arrow, comma, end = (
        " " if long else glue(rng),
        pick(rng, ARROWS),
        pick(rng, ENDS[:2]),
        pick(rng, ENDS),
    )
    pieces: Document = []
    for i in range(examples):
        items = [draw() for _ in range(int(rng.integers(2, 6)))]
        pairs = [a + joiner + b for a, b in itertools.pairwise(items)]
        if name == "windows from the right":
            pairs.reverse()
        pieces += [(joiner.join(items) + arrow, False), (comma.join(pairs), i > 0), (end, i > 0)]
    return pieces


def lookup(rng: Rng, name: str, examples: int) -> Document:
    """Pairs drawn afresh, then asked for: ``q:7 x:2 a:7 | x:2 a:7``."""
    draw_key, long = symbol_source(rng)
    draw_value, _ = symbol_source(rng)
    equals, end = pick(rng, ARROWS), pick(rng, ENDS[1:])
    keys = list(
        dict.fromkeys(draw_key() + ("" if long else draw_key()) for _ in range(int(rng.integers(2, 9))))
    )
    table = {key: draw_value() for key in keys}
    pieces: Document = []
    for key, value in table.items():
        pieces += [(key, False), (equals, len(pieces) > 3), (value + end, False)]
    for _ in range(examples + 2):
        key = keys[int(rng.integers(len(keys)))]
        pieces += [(key, False), (equals, True), (table[key], True), (end, True)]
    return pieces[:-1]


def chase(rng: Rng, name: str, examples: int) -> Document:
    """Links in any order, then followed: ``b>c a>b c>d: a>b>c>d``."""
    names = list(LOWER) if rng.random() < 0.6 else list(dict.fromkeys(word(rng) for _ in range(12)))
    chain = [names[i] for i in rng.permutation(len(names))[: int(rng.integers(3, 6))]]
    arrow, end = pick(rng, (">", "-", " to ", "=", ":")), pick(rng, ENDS[:2])
    links = [a + arrow + b for a, b in itertools.pairwise(chain)]
    shuffled = end.join(links[i] for i in rng.permutation(len(links)))
    return [(f"{shuffled} | {chain[0]}", False), (arrow + arrow.join(chain[1:]), True), (end, True)]


def repeated(rng: Rng, name: str, examples: int) -> Document:
    """A random stretch of text that comes back."""
    alphabet = pick(rng, (string.printable[:95], LOWER + " ", LOWER + DIGITS + MARKS, LOWER[:6]))
    text = "".join(pick(rng, alphabet) for _ in range(int(rng.integers(2, 25))))
    if rng.random() < 0.4:
        text = " ".join(word(rng) for _ in range(int(rng.integers(1, 5)))) + " "
    return [(text, False), (text[:2], False), (text[2:], True), (text * examples, True)]


def brackets(rng: Rng, name: str, examples: int) -> Document:
    """Nested brackets around letters; closing is determined once the mark ``|`` says that no more are opened."""
    pieces: Document = []
    for _ in range(examples):
        opened = [pick(rng, "([{<") for _ in range(int(rng.integers(2, 8)))]
        closed = "".join({"(": ")", "[": "]", "{": "}", "<": ">"}[b] for b in reversed(opened))
        pieces += [
            ("".join(b + (pick(rng, LOWER) if rng.random() < 0.3 else "") for b in opened) + "|", False)
        ]
        pieces += [(closed, True), ("\n", True)]
    return pieces


def counted(rng: Rng, name: str, examples: int) -> Document:
    """How many symbols there are: ``xxxx=4``."""
    equals, end = pick(rng, ARROWS), pick(rng, ENDS)
    pieces: Document = []
    for i in range(examples + 1):
        n = int(rng.integers(1, 10))
        pieces += [(pick(rng, LOWER + MARKS) * n + equals, False), (str(n), i > 0), (end, i > 0)]
    return pieces


TASKS: dict[str, tuple[Callable[[Rng, str, int], Document], float]] = {
    **dict.fromkeys(OPERATIONS, (mapped, 1.0)),
    "copy": (mapped, 2.0),
    "reverse": (mapped, 2.0),
    "zip": (zipped, 1.5),
    "zip from the right": (zipped, 2.0),
    "windows": (windows, 1.5),
    "windows from the right": (windows, 1.5),
    "lookup": (lookup, 4.0),
    "chase": (chase, 1.5),
    "repeated": (repeated, 4.0),
    "brackets": (brackets, 0.5),
    "counted": (counted, 0.7),
}
NAMES = tuple(TASKS)
SHARES = np.array([share for _, share in TASKS.values()]) / sum(share for _, share in TASKS.values())


def document(rng: Rng, name: str | None = None, examples: int | None = None) -> Document:
    """One document of the named operation, or of one drawn by its share."""
    name = name or NAMES[int(rng.choice(len(NAMES), p=SHARES))]
    return TASKS[name][0](rng, name, examples or int(rng.integers(2, 5)))


def page(rng: Rng, characters: int, names: tuple[str, ...] = ()) -> Document:
    """Documents, a line each, up to at least so many characters; only of the named operations if any are named."""
    pieces: Document = []
    while sum(len(text) for text, _ in pieces) < characters:
        pieces += [*document(rng, pick(rng, names) if names else None), ("\n", False)]
    return pieces
