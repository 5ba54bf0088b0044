"""Lists of things in BIG-Bench Hard: counting, colours, tables, adjectives. Of things of one name the first counts."""

from __future__ import annotations

import re
from itertools import pairwise

from benchmarks.symbolic._pens import Pen
from benchmarks.symbolic.tasks._family import Family, group, groups, line, listed, repeat
from benchmarks.symbolic.tasks.tracking import COLOURS

FAMILY = Family()
FORMATS, WRITERS = FAMILY.formats, FAMILY.writers

KINDS = {
    "fruits": ["plums", "bananas", "oranges", "peaches"],
    "vegetables": ["onions", "carrots", "potatoes", "cabbages"],
    "musical instruments": ["flutes", "violins", "drums", "trumpets"],
    "animals": ["cats", "donkeys", "frogs", "snails"],
}
KIND_OF = {item: kind for kind, items in KINDS.items() for item in items}
QUANTITIES = {"two": 2, "three": 3, "four": 4, "five": 5}
THINGS = ["paperclip", "keychain", "pencil", "notebook", "mug", "plate", "puzzle", "necklace"]
ADJECTIVES = {
    "opinion": ["lovely", "awful", "nice"],
    "size": ["big", "tiny", "huge"],
    "age": ["old", "new", "ancient"],
    "shape": ["round", "square", "triangular"],
    "colour": ["red", "blue", "green"],
    "origin": ["Indian", "Polish", "Thai"],
    "material": ["wool", "glass", "steel"],
    "purpose": ["driving", "eating", "hiking"],
}
RANK = {word: f"{i + 1}. {kind}" for i, (kind, words) in enumerate(ADJECTIVES.items()) for word in words}


# -- object counting -------------------------------------------------------------------------------------------------
@FAMILY.task(
    "object counting",
    {"n": list(QUANTITIES), "item": list(KIND_OF), "kind": list(KINDS)},
    lambda n: f"Q: I have {listed(['{n} {item}'] * n)}. How many {{kind}} do I have?\nA:",
    r"So the answer is (\d+)\.",
)
def object_counting(prompt: str, pen: Pen) -> None:
    """Those of the kind with their numbers, then the sum, number by number. Long lists have sums that short ones never
    reach."""
    things, kind = groups(r"I have (.*)\. How many (.*) do", prompt)
    pen.t(" Let's think step by step. We first identify the ")
    kind = pen.s(kind)
    pen.t(" on the list and include their quantity in parentheses:")
    numbers: list[str] = []
    for quantity, item in re.findall(r"(two|three|four|five) (\w+)", things):
        if KIND_OF[item] == kind:
            pen.t(", " if numbers else " ")
            pen.s(item)
            pen.t(" (")
            numbers.append(pen.s(str(QUANTITIES[quantity])))
            pen.t(")")
    if not numbers:
        pen.t(" none. So the answer is 0.")
        return
    pen.t(". Now, let's add the numbers in parentheses:")
    total, *others = numbers
    for i, number in enumerate(others):
        pen.t(", " if i else " ")
        total = pen.s(total)
        pen.t(" + ")
        number = pen.s(number)
        pen.t(" = ")
        total = pen.s(str(int(total) + int(number)))
    pen.t(". So the answer is " if others else " there is one. So the answer is ")
    pen.s(total)
    pen.t(".")


# -- reasoning about coloured objects --------------------------------------------------------------------------------
def row_of_things(n: int, question: str) -> str:
    return (
        "Q: On the table, you see a bunch of objects arranged in a row: "
        f"{listed(['a {colour} {thing}'] * n)}. {question}\nA:"
    )


def _things(prompt: str) -> list[tuple[str, str]]:
    return re.findall(r"an? (\w+) (\w+)[,.]", prompt)


def _write_things(pen: Pen, things: list[tuple[str, str]]) -> list[tuple[str, str]]:
    standing = []
    for i, (colour, thing) in enumerate(things):
        pen.t(", a " if i else "a ")
        colour = pen.s(colour)
        pen.t(" ")
        standing.append((colour, pen.s(thing)))
    pen.t(".")
    return standing


@FAMILY.task(
    "reasoning about colored objects (neighbour)",
    {"colour": COLOURS, "thing": THINGS},
    lambda n: row_of_things(n, "What is the color of the object directly to the right of the {thing}?"),
    r"So the answer is (\w+)\.",
)
def colour_of_neighbour(prompt: str, pen: Pen) -> None:
    """There may be no such object, or nothing to its right."""
    things, asked = _things(prompt), group(r"right of the (\w+)\?", prompt)
    pen.t(" According to this question, the objects are arranged in a row, from left to right, as follows: ")
    things = _write_things(pen, things)
    at = next((i for i, (_, thing) in enumerate(things) if thing == asked), None)
    if at is None:
        pen.t(" There is no ")
        pen.s(asked)
        pen.t(". So the answer is none.")
    elif at == len(things) - 1:
        pen.t(" There is no object to the right of the ")
        pen.s(asked)
        pen.t(". So the answer is none.")
    else:
        pen.t(" The object that is to the right of the ")
        pen.s(asked)
        pen.t(" is a ")
        colour = pen.s(things[at + 1][0])
        pen.t(" ")
        thing = pen.s(things[at + 1][1])
        pen.t(". The color of the ")
        pen.s(thing)
        pen.t(" is ")
        colour = pen.s(colour)
        pen.t(". So the answer is ")
        pen.s(colour)
        pen.t(".")


@FAMILY.task(
    "reasoning about colored objects (removal)",
    {"colour": COLOURS, "thing": THINGS},
    lambda n: row_of_things(n, "If I remove all the {colour} objects from the table, which objects remain?"),
    r"So the answer is (.+)\.",
)
def remaining_things(prompt: str, pen: Pen) -> None:
    """A filter."""
    things, asked = _things(prompt), group(r"all the (\w+) objects", prompt)
    pen.t(" The objects are: ")
    things = _write_things(pen, things)
    pen.t(" We remove the ")
    asked = pen.s(asked)
    pen.t(" ones. So the answer is ")
    remaining = [thing for colour, thing in things if colour != asked]
    if not remaining:
        pen.t("none")
    line(pen, remaining, ", ")
    pen.t(".")


# -- penguins in a table ---------------------------------------------------------------------------------------------
PENGUINS = {
    "name": ["Louis", "Bernard", "Vincent", "Gwen", "James", "Ada", "Percy", "Opus"],
    "age": [str(i) for i in range(5, 10)],
    "height": [str(i) for i in range(50, 95, 5)],
    "weight": [str(i) for i in range(11, 19)],
    "column": ["age", "height", "weight"],
}


def table(n: int, question: str) -> str:
    rows = repeat("{name}, {age}, {height}, {weight}", n, "\n")
    return (
        "Here is a table where the first line is a header and each subsequent line is a penguin:\n"
        f"name, age, height (cm), weight (kg)\n{rows}\n{question}\n"
    )


def _rows(prompt: str) -> list[list[str]]:
    return [row.split(", ") for row in prompt.split("(kg)\n")[1].split("\n")[:-2]]


@FAMILY.task(
    "penguins in a table (look-up)", PENGUINS, lambda n: table(n, "What is the {column} of {name}?"),
    r"So the answer is (\w+)\.",
)  # fmt: skip
def penguin_lookup(prompt: str, pen: Pen) -> None:
    """The row by its name, then the value by its column."""
    column, name = groups(r"What is the (\w+) of (\w+)\?", prompt)
    row = next((row for row in _rows(prompt) if row[0] == name), None)
    if row is None:
        pen.t(" There is no penguin called ")
        pen.s(name)
        pen.t(". So the answer is unknown.")
        return
    pen.t(" This question focuses on the ")
    column = pen.s(column)
    pen.t(" of ")
    name = pen.s(name)
    pen.t(". According to the table, ")
    name = pen.s(name)
    pen.t("'s ")
    column = pen.s(column)
    pen.t(" is ")
    value = pen.s(row[["name", "age", "height", "weight"].index(column)])
    pen.t(". So the answer is ")
    pen.s(value)
    pen.t(".")


@FAMILY.task(
    "penguins in a table (older than)", PENGUINS, lambda n: table(n, "Which penguins are older than {age} years?"),
    r"So the answer is (.+)\.",
)  # fmt: skip
def older_penguins(prompt: str, pen: Pen) -> None:
    """Each age is compared, then those names are listed."""
    limit = group(r"older than (\d+)", prompt)
    older = []
    for row in _rows(prompt):
        pen.t(" ")
        name = pen.s(row[0])
        pen.t(" is ")
        age = pen.s(row[1])
        pen.t(" years old, which is ")
        if pen.s("more" if int(age) > int(limit) else "not more") == "more":
            older.append(name)
        pen.t(" than ")
        limit = pen.s(limit)
        pen.t(".")
    pen.t(" So the answer is ")
    if not older:
        pen.t("none")
    line(pen, older, ", ")
    pen.t(".")


# -- hyperbaton ------------------------------------------------------------------------------------------------------
@FAMILY.task(
    "hyperbaton",
    {"adjective": list(RANK)},
    lambda n: f"Q: Does this phrase have the correct adjective order: {repeat('{adjective}', n)} ship?\nA:",
    r"So the answer is (Yes|No)\.",
)
def hyperbaton(prompt: str, pen: Pen) -> None:
    """The kind of each adjective, then their numbers compared in turn until two are in the wrong order."""
    adjectives = group(r"order: (.*) ship", prompt).split(" ")
    numbers = []
    pen.t(" Let's think step by step.")
    for adjective in adjectives:
        pen.t(' "')
        adjective = pen.s(adjective)
        pen.t('": "')
        number, kind = RANK[adjective].split(". ")
        number = pen.s(number)
        pen.t(". ")
        pen.s(kind)
        pen.t('".')
        numbers.append(number)
    for a, b in pairwise(numbers):
        pen.t(' Is "')
        a = pen.s(a)
        pen.t(" <= ")
        b = pen.s(b)
        pen.t('" correct? ')
        if pen.s("Yes" if a <= b else "No") == "No":
            pen.t(". So the answer is No.")
            return
        pen.t(".")
    pen.t(" So the answer is Yes.")
