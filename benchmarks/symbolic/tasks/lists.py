"""Lists: search, look-up, sets, copying with edits. Lists of equal items are in the evaluation."""

from __future__ import annotations

import re
from collections.abc import Callable

from benchmarks.symbolic._pens import Pen
from benchmarks.symbolic.tasks._family import DIGITS, NAMES, Family, each, group, groups, line, repeat
from benchmarks.symbolic.tasks.tracking import COLOURS

FAMILY = Family()
FORMATS, WRITERS = FAMILY.formats, FAMILY.writers

FRUITS = ["apple", "banana", "cherry", "fig", "grape", "kiwi", "lemon", "mango"]
FRUIT = {"w": FRUITS}


def items_of(prompt: str) -> list[str]:
    """The list after the colon."""
    return prompt.split(": ")[1].rstrip(".?").split(", ")


def of_fruits(head: str) -> Callable[[int], str]:
    return lambda n: f"{head}: {repeat('{w}', n, ', ')}."


# -- search ----------------------------------------------------------------------------------------------------------
@FAMILY.task(
    "linear search", {"d": DIGITS}, lambda n: f"Is {{d}} in the list: {repeat('{d}', n, ', ')}?", r"So (yes|no)\."
)
def linear_search(prompt: str, pen: Pen) -> None:
    """Item after item until one is found."""
    wanted = prompt.split(" ")[1]
    for item in items_of(prompt):
        pen.t(" ")
        item = pen.s(item)
        if item == wanted:
            pen.t(" is ")
            wanted = pen.s(wanted)
            pen.t(". So yes.")
            return
        pen.t(" is not ")
        wanted = pen.s(wanted)
        pen.t(".")
    pen.t(" So no.")


LENGTHS = (2, 3, 5, 7)
LONGER = (28, 14)
# Sorted by construction: each item has a slot of three numbers above those of the one before.
ITEMS = {f"item{i}": [str(3 * i + j) for j in range(3)] for i in range(max(LONGER))}
WANTED = {f"wanted{n}": [str(i) for i in range(3 * n)] for n in LENGTHS + LONGER}


def sorted_list(n: int) -> str:
    return f"Is {{wanted{n}}} in the sorted list: {each(n, lambda i: f'{{item{i}}}', ', ')}?"


@FAMILY.task(
    "binary search",
    ITEMS | WANTED,
    sorted_list,
    r"So (yes|no)\.",
    probed=LENGTHS,
    held_out=LONGER,
)
def binary_search(prompt: str, pen: Pen) -> None:
    """The part of the list in which it must be, written anew after each comparison."""
    wanted, part = prompt.split(" ")[1], items_of(prompt)
    while part:
        middle = (len(part) - 1) // 2
        pen.t(" The middle is ")
        item = pen.s(part[middle])
        if item == wanted:
            pen.t(", found. So yes.")
            return
        pen.t(". ")
        wanted = pen.s(wanted)
        pen.t(" is ")
        relation = pen.s("larger" if int(wanted) > int(item) else "smaller")
        part = part[middle + 1 :] if relation == "larger" else part[:middle]
        pen.t(", left are: " if part else ", nothing is left")
        part = line(pen, part, ", ")
        pen.t(".")
    pen.t(" So no.")


@FAMILY.task("key-value look-up", {"k": list("abcdefgh"), "v": DIGITS},
             lambda n: f"{repeat('{k}: {v}', n, ', ')}. What is {{k}}?", r"(\d|none)")  # fmt: skip
def key_value(prompt: str, pen: Pen) -> None:
    """The value alone; a key that comes twice has its first value."""
    asked = group(r"What is (\w)\?", prompt)
    values = [value for key, value in re.findall(r"(\w): (\d)", prompt) if key == asked]
    pen.t(" ")
    pen.s(values[0] if values else "none")


@FAMILY.task("who has which colour", {"name": NAMES[:8], "colour": COLOURS},
             lambda n: f"{repeat('{name} has the {colour} hat.', n)} "
             "Which hat does the owner of the {colour} hat have in the end?", r"So the answer is (\w+)\.")  # fmt: skip
def who_has(prompt: str, pen: Pen) -> None:
    """By its colour to the first owner, and to the last hat of that name."""
    hats = re.findall(r"(\w+) has the (\w+) hat", prompt)
    asked = group(r"owner of the (\w+) hat", prompt)
    owner = next((name for name, colour in hats if colour == asked), None)
    pen.t(" The ")
    asked = pen.s(asked)
    if owner is None:
        pen.t(" hat has no owner. So the answer is none.")
        return
    pen.t(" hat belongs to ")
    owner = pen.s(owner)
    pen.t(". In the end ")
    pen.s(owner)
    pen.t(" has the ")
    colour = pen.s([colour for name, colour in hats if name == owner][-1])
    pen.t(" hat. So the answer is ")
    pen.s(colour)
    pen.t(".")


@FAMILY.task("induction", {"l": list("abcdef")}, lambda n: f"{repeat('{l}', n)} {{l}} ->", r"(\w+)", probed=(3, 4, 6))
def induction(prompt: str, pen: Pen) -> None:
    """What followed the last occurrence of the last letter."""
    *letters, last = prompt.removesuffix(" ->").split(" ")
    at = max((i for i, letter in enumerate(letters) if letter == last), default=None)
    pen.t(" ")
    pen.s("none" if at is None else [*letters, last][at + 1])


# -- sets ------------------------------------------------------------------------------------------------------------
@FAMILY.task("deduplication", FRUIT, of_fruits("Remove duplicates"), r"Result: (.+)\.")
def deduplication(prompt: str, pen: Pen) -> None:
    """Each item is new, or was seen."""
    seen: list[str] = []
    for item in items_of(prompt):
        pen.t(" ")
        item = pen.s(item)
        if item in seen:
            pen.t(": seen.")
        else:
            pen.t(": new.")
            seen.append(item)
    pen.t(" Result: ")
    line(pen, seen, ", ")
    pen.t(".")


def two_sets(operation: str) -> Callable[[int], str]:
    return lambda n: f"{operation} of A = {{{{{repeat('{w}', n, ', ')}}}}} and B = {{{{{repeat('{w}', n, ', ')}}}}}:"


def _sets(prompt: str) -> tuple[list[str], list[str]]:
    a, b = (text.split(", ") for text in re.findall(r"\{(.*?)\}", prompt))
    return a, b


@FAMILY.task("set intersection", FRUIT, two_sets("Intersection"), r"Result: (.+)\.")
def intersection(prompt: str, pen: Pen) -> None:
    """Those of A that are in B, item by item."""
    a, b = _sets(prompt)
    common = []
    for item in a:
        pen.t(" ")
        item = pen.s(item)
        pen.t(" in B: ")
        if pen.s("yes" if item in b else "no") == "yes" and item not in common:
            common.append(item)
        pen.t(".")
    pen.t(" Result: ")
    if not common:
        pen.t("empty")
    line(pen, common, ", ")
    pen.t(".")


@FAMILY.task("set union", FRUIT, two_sets("Union"), r"(\w.*)")
def union(prompt: str, pen: Pen) -> None:
    """Items of A, then of B, each once; no steps."""
    a, b = _sets(prompt)
    pen.t(" ")
    line(pen, dict.fromkeys(a + b), ", ")


# -- copying ---------------------------------------------------------------------------------------------------------
@FAMILY.task("copying", FRUIT, of_fruits("Copy"), None)
def copying(prompt: str, pen: Pen) -> None:
    """As it is."""
    pen.t(" ")
    line(pen, items_of(prompt), ", ")


@FAMILY.task("copying with a replacement", FRUIT, of_fruits("Replace {w} by {w} in this list"), r"(\w.*)")
def replacement(prompt: str, pen: Pen) -> None:
    """The words to exchange stand in the prompt."""
    old, new = groups(r"Replace (\w+) by (\w+)", prompt)
    pen.t(" ")
    line(pen, [new if item == old else item for item in items_of(prompt)], ", ")


@FAMILY.task("copying without a word", FRUIT, of_fruits("Remove {w} from this list"), r"(\w.*)")
def removal(prompt: str, pen: Pen) -> None:
    """Nothing may be left."""
    word = group(r"Remove (\w+)", prompt)
    left = [item for item in items_of(prompt) if item != word]
    pen.t(" " if left else " empty")
    line(pen, left, ", ")


@FAMILY.task("duplication", FRUIT, of_fruits("Write each item twice"), None)
def duplication(prompt: str, pen: Pen) -> None:
    """Each twice in a row."""
    pen.t(" ")
    line(pen, [item for item in items_of(prompt) for _ in range(2)], ", ")


@FAMILY.task("interleaving", {"d": DIGITS, "w": FRUITS},
             lambda n: f"Interleave {repeat('{w}', n, ', ')} and {repeat('{d}', n, ', ')}.", r"(\w.*)")  # fmt: skip
def interleaving(prompt: str, pen: Pen) -> None:
    """One of each in turn."""
    words, digits = (text.split(", ") for text in prompt[11:-1].split(" and "))
    pen.t(" ")
    line(pen, [item for pair in zip(words, digits, strict=True) for item in pair], ", ")


@FAMILY.task(
    "filtering even numbers", {"d": DIGITS}, lambda n: f"Keep the even numbers: {repeat('{d}', n, ', ')}.", r"(\w.*)"
)
def even_numbers(prompt: str, pen: Pen) -> None:
    """A known property of each; no steps."""
    even = [digit for digit in items_of(prompt) if int(digit) % 2 == 0]
    pen.t(" " if even else " none")
    line(pen, even, ", ")


@FAMILY.task("rotation", FRUIT, of_fruits("Move the first item to the end"), None)
def rotation(prompt: str, pen: Pen) -> None:
    """By one."""
    first, *others = items_of(prompt)
    pen.t(" ")
    line(pen, [*others, first], ", ")


for _name in ("key-value look-up", "set union", "filtering even numbers"):
    FAMILY.unwritten(_name)
