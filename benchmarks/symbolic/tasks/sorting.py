"""Sorting with the steps of each algorithm. Lists of equal elements occur in the evaluation."""

from __future__ import annotations

from benchmarks.symbolic._pens import Pen
from benchmarks.symbolic.tasks._family import DIGITS, Family, group, line, repeat

FAMILY = Family()
FORMATS, WRITERS = FAMILY.formats, FAMILY.writers

WORDS = ["apple", "banana", "cherry", "date", "elder", "fig", "grape", "hazel", "iris", "juniper", "kiwi", "lemon"]
ANSWER = r"Sorted: (.+)\."


def numbers_to_sort(n: int) -> str:
    return f"Sort the numbers: {repeat('{d}', n)}."


def _items(prompt: str) -> list[str]:
    return prompt.split(": ")[1].rstrip(".").split(" ")


def conclude(pen: Pen, items: list[str]) -> None:
    pen.t(" Sorted: ")
    line(pen, items)
    pen.t(".")


def insertion(prompt: str, pen: Pen) -> None:
    """Each item goes before the first larger one of those that are sorted."""
    items: list[str] = []
    for item in _items(prompt):
        pen.t(" Insert ")
        item = pen.s(item)
        pen.t(": ")
        at = next((i for i, other in enumerate(items) if other > item), len(items))
        items = line(pen, [*items[:at], item, *items[at:]])
        pen.t(".")
    conclude(pen, items)


FAMILY.task("insertion sort", {"d": DIGITS}, numbers_to_sort, ANSWER)(insertion)
FAMILY.task("insertion sort of words", {"w": WORDS}, lambda n: f"Sort the words: {repeat('{w}', n)}.", ANSWER)(
    insertion
)


@FAMILY.task("bubble sort", {"d": DIGITS}, numbers_to_sort, ANSWER, probed=(2, 3, 4), held_out=(16, 8))
def bubble_sort(prompt: str, pen: Pen) -> None:
    """The list after each swap of neighbours."""
    items = _items(prompt)
    last = len(items) - 1
    while last > 0:
        for i in range(last):
            if items[i] > items[i + 1]:
                pen.t(" Swap ")
                left = pen.s(items[i])
                pen.t(" and ")
                right = pen.s(items[i + 1])
                pen.t(": ")
                items = line(pen, [*items[:i], right, left, *items[i + 2 :]])
                pen.t(".")
        last -= 1
    conclude(pen, items)


@FAMILY.task("selection sort", {"d": DIGITS}, numbers_to_sort, ANSWER)
def selection_sort(prompt: str, pen: Pen) -> None:
    """The smallest of those that are left is taken out, then the next."""
    left, items = _items(prompt), []
    while left:
        pen.t(" The smallest of ")
        left = line(pen, left)
        pen.t(" is ")
        smallest = pen.s(min(left))
        pen.t(".")
        items.append(smallest)
        left.remove(smallest)
    conclude(pen, items)


def _merged(pen: Pen, a: list[str], b: list[str]) -> list[str]:
    merged: list[str] = []
    pen.t("[")
    while a or b:
        if merged:
            pen.t(" ")
        source = a if a and (not b or a[0] <= b[0]) else b
        merged.append(pen.s(source[0]))
        del source[0]
    pen.t("]")
    return merged


@FAMILY.task("merge sort", {"d": DIGITS}, numbers_to_sort, ANSWER, probed=(2, 4, 6), held_out=(24, 12))
def merge_sort(prompt: str, pen: Pen) -> None:
    """From runs of one item: neighbours are merged, line after line."""
    runs = [[item] for item in _items(prompt)]
    pen.t(" Runs:")
    standing = []
    for run in runs:
        pen.t(" [")
        standing.append(line(pen, run))
        pen.t("]")
    pen.t(".")
    runs = standing
    while len(runs) > 1:
        pen.t(" Merge:")
        merged = []
        for i in range(0, len(runs), 2):
            pen.t(" ")
            merged.append(_merged(pen, runs[i], runs[i + 1] if i + 1 < len(runs) else []))
        pen.t(".")
        runs = merged
    conclude(pen, runs[0])


@FAMILY.task(
    "word sorting",
    {"w": WORDS},
    lambda n: f"Q: Sort the following words alphabetically: List: {repeat('{w}', n)}\nA: Let's think step by step.",
    r"So the answer is (.+)\.",
)
def word_sorting(prompt: str, pen: Pen) -> None:
    """BIG-Bench Hard: first letters with their number in the alphabet, then the groups in order."""
    words = group(r"List: (.*)\n", prompt).split(" ")
    pen.t(" The first letters:")
    standing, letters = [], []
    for word in words:
        pen.t(' "')
        standing.append(pen.s(word))
        pen.t('": "')
        letters.append(pen.s(word[0]))
        pen.t('" (')
        letters[-1] = pen.s(str(ord(word[0]) - ord("a") + 1))
        pen.t(").")
    ordered = sorted(zip(map(int, letters), standing, strict=True))
    pen.t(" We now have: ")
    for i, (number, word) in enumerate(ordered):
        if i:
            pen.t(" < " if number != ordered[i - 1][0] else " = ")
        pen.t("(")
        pen.s(str(number))
        pen.t(') "')
        ordered[i] = (number, pen.s(word))
        pen.t('"')
    pen.t(". So the answer is ")
    line(pen, [word for _, word in ordered])
    pen.t(".")
