"""Chains of rules in any order: PrOntoQA, ProofWriter, LEGO.

Where links of a chain could be alike it would be none: each link has a slot of its own, whose values no other has.
"""

from __future__ import annotations

import random
import re
from itertools import pairwise
from string import ascii_lowercase

from benchmarks.symbolic._pens import Pen
from benchmarks.symbolic.tasks._family import Family, group, repeat

FAMILY = Family()
FORMATS, WRITERS = FAMILY.formats, FAMILY.writers

LINKS = 25
ONSETS = [
    "y", "z", "w", "t", "r", "n", "l", "st", "sh", "gr", "br", "d", "g", "j", "v", "k", "f", "p", "h", "b", "m", "s",
    "ch", "th", "tw",
]  # fmt: skip
CONCEPTS = {f"c{i}": [onset + "umpus", onset + "orpus"] for i, onset in enumerate(ONSETS)}
VARIABLES = {f"v{i}": [letter, letter.upper()] for i, letter in enumerate(ascii_lowercase[:LINKS])}
PROPERTIES = ["small", "bright", "cold", "spicy", "wooden", "loud"]
KINDS = ["kind", "rough", "big", "quiet", "smart", "young", "green", "cold"]


def orders(n: int) -> list[list[int]]:
    """Rules from first to last, from last to first, and shuffled."""
    shuffled = list(range(n))
    random.Random(n).shuffle(shuffled)
    listed = [list(range(n)), list(range(n))[::-1], shuffled]
    return [order for i, order in enumerate(listed) if order not in listed[:i]]


# -- PrOntoQA --------------------------------------------------------------------------------------------------------
def ontology(n: int, concept: str = "c{0}=c{0}") -> list[str]:
    """``concept``: the hole of a link."""
    holes = ["{" + concept.format(i) + "}" for i in range(n)]
    rules = [f"Every {a} is a {b}." for a, b in pairwise(holes)] + [f"Every {holes[-1]} {{is}} {{q=property}}."]
    return [
        " ".join(rules[i] for i in order)
        + f" {{who=name}} is a {holes[0]}. True or false: {{who=name}} is {{q=property}}."
        for order in orders(n)
    ]  # fmt: skip


def prontoqa(prompt: str, pen: Pen) -> None:
    """Each step: a rule, then what follows for the one in question. Of rules that apply the first counts, each once."""
    rules = re.findall(r"Every (\w+) (is a|is not|is) (\w+)\.", prompt)
    name, concept = re.findall(r"(\w+) is a (\w+)\.", prompt)[-1]
    pen.t(" ")
    name = pen.s(name)
    pen.t(" is a ")
    concept = pen.s(concept)
    pen.t(".")
    while rule := next((rule for rule in rules if rule[0] == concept), None):
        rules.remove(rule)
        pen.t(" Every ")
        pen.s(concept)
        if rule[1] == "is a":
            pen.t(" is a ")
            concept = pen.s(rule[2])
            pen.t(". ")
            pen.s(name)
            pen.t(" is a ")
            concept = pen.s(concept)
            pen.t(".")
        else:
            pen.t(" ")
            verb = pen.s(rule[1])
            pen.t(" ")
            value = pen.s(rule[2])
            pen.t(". ")
            pen.s(name)
            pen.t(" ")
            verb = pen.s(verb)
            pen.t(" ")
            pen.s(value)
            pen.t(". ")
            pen.s("True" if verb == "is" else "False")
            return
    pen.t(" Nothing more is known. Unknown")


OTHERS = {
    "property": PROPERTIES,
    "is": ["is", "is not"],
    "name": ["Alex", "Max", "Fae", "Rex", "Sally", "Stella", "Polly", "Wren"],
}
FAMILY.task("PrOntoQA", CONCEPTS | OTHERS, ontology, r"(True|False|Unknown)$")(prontoqa)
# A concept may come twice in a chain: then rules that were used must be told from those that were not.
FAMILY.task(
    "PrOntoQA (concepts come twice)",
    {"concept": [concept for pair in CONCEPTS.values() for concept in pair], **OTHERS},
    lambda n: ontology(n, "c{0}=concept"),
    r"(True|False|Unknown)$",
)(prontoqa)


# -- ProofWriter -----------------------------------------------------------------------------------------------------
def _forward(prompt: str, pen: Pen, rules: list[tuple[list[str], str]]) -> None:
    """Again and again the first rule that adds something, until none does."""
    known = re.findall(r"Bob is (\w+)\.", prompt.split(" Question")[0])
    asked = group(r"Question: Bob is (\w+),", prompt)
    while rule := next((r for r in rules if r[1] not in known and all(p in known for p in r[0])), None):
        pen.t(" Bob is ")
        for i, premise in enumerate(rule[0]):
            pen.t(" and " if i else "")
            pen.s(premise)
        pen.t(", so Bob is ")
        known.append(pen.s(rule[1]))
        pen.t(".")
    pen.t(" Nothing more follows. Bob is ")
    asked = pen.s(asked)
    pen.t(": ")
    pen.s("true" if asked in known else "false")
    pen.t(".")


@FAMILY.task(
    "ProofWriter",
    {"attribute": KINDS},
    lambda n: (
        f"Bob is {{attribute}}. {repeat('If someone is {attribute} then they are {attribute}.', n)} "
        "Question: Bob is {attribute}, true or false?"
    ),
    r": (true|false)\.",
)
def proofwriter(prompt: str, pen: Pen) -> None:
    """Forward chaining in a closed world; rules of one premise."""
    rules = re.findall(r"someone is (\w+) then they are (\w+)\.", prompt)
    _forward(prompt, pen, [([premise], conclusion) for premise, conclusion in rules])


@FAMILY.task(
    "ProofWriter (two premises)",
    {"attribute": KINDS},
    lambda n: (
        f"{repeat('Bob is {attribute}.', 3)} "
        f"{repeat('If someone is {attribute} and {attribute} then they are {attribute}.', n)} "
        "Question: Bob is {attribute}, true or false?"
    ),
    r": (true|false)\.",
)
def proofwriter_two(prompt: str, pen: Pen) -> None:
    """Forward chaining in a closed world; rules of two premises, three facts."""
    rules = re.findall(r"someone is (\w+) and (\w+) then they are (\w+)\.", prompt)
    _forward(prompt, pen, [([a, b], conclusion) for a, b, conclusion in rules])


# -- LEGO ------------------------------------------------------------------------------------------------------------
def clauses(n: int) -> list[str]:
    first, *others = ["{v0=v0} = {sign}1"] + [f"{{v{i + 1}=v{i + 1}}} = {{sign}}{{v{i}=v{i}}}" for i in range(n - 1)]
    return ["; ".join([first, *(others[i] for i in order)]) + ". Values:" for order in orders(n - 1)]


@FAMILY.task("LEGO", VARIABLES | {"sign": ["+", "-"]}, clauses, r"([a-zA-Z] = [+-]1)\.$")
def lego(prompt: str, pen: Pen) -> None:
    """Each variable is resolved from the one before, wherever its clause stands."""
    listed = [re.findall(r"[a-zA-Z1+-]", clause) for clause in prompt.split(".")[0].split("; ")]
    (variable, value, _), *rest = listed
    clause: list[str] | None = listed[0]
    while clause:
        pen.t(" " if clause is listed[0] else "; ")
        name = pen.s(clause[0])
        pen.t(" = ")
        sign = pen.s(clause[1])
        if clause is not listed[0]:
            variable = pen.s(variable)
            pen.t(" = ")
            value = pen.s("+" if sign == value else "-")
        else:
            value = sign
        pen.t("1")
        variable = name
        clause = next((c for c in rest if c[2] == variable), None)
        if clause:
            rest.remove(clause)
    pen.t(".")
