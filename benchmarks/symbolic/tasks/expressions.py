"""Expressions, most of them rewritten line after line: multi-step arithmetic of BIG-Bench Hard, ListOps, RPN."""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import add, mul, sub

from benchmarks.symbolic._pens import Pen
from benchmarks.symbolic.tasks._family import DIGITS, Family, line, repeat

FAMILY = Family()
FORMATS, WRITERS = FAMILY.formats, FAMILY.writers

ARITHMETIC: dict[str, Callable[[int, int], int]] = {"+": add, "-": sub, "*": mul}
LISTS: dict[str, Callable[[int, int], int]] = {"MAX": max, "MIN": min, "SM": lambda a, b: (a + b) % 10}


def write_tokens(pen: Pen, tokens: list[str]) -> list[str]:
    """Brackets are structure. Spaces stand between all but brackets and what is inside them."""
    standing: list[str] = []
    for token in tokens:
        if standing and standing[-1] != "(" and token != ")":
            pen.t(" ")
        if token in ("(", ")"):
            pen.t(token)
            standing.append(token)
        else:
            standing.append(pen.s(token))
    return standing


# -- multi-step arithmetic two ---------------------------------------------------------------------------------------
@FAMILY.task(
    "multistep arithmetic two",
    {"n": [str(i) for i in range(-9, 10)], "o": list(ARITHMETIC)},
    lambda n: f"Q: {repeat('({n} {o} {n})', n, ' {o} ')} =\nA:",
    r"So the answer is (-?\d+)\.",
    probed=(1, 2, 3),
    held_out=(12, 6),
)
def multistep_arithmetic(prompt: str, pen: Pen) -> None:
    """Brackets, then products, then sums from the left. Numbers grow without limit, as they do in BIG-Bench Hard."""
    tokens = re.findall(r"\(|\)|-?\d+|[-+*]", prompt.removeprefix("Q: ").removesuffix(" =\nA:"))
    pen.t(" Let's think step by step. ")
    tokens = write_tokens(pen, tokens)
    while len(tokens) > 1:
        pen.t(" = ")
        if "(" in tokens:
            at = tokens.index("(") + 2
            before, after = tokens[: at - 2], tokens[at + 3 :]
        else:
            at = tokens.index("*") if "*" in tokens else 1
            before, after = tokens[: at - 1], tokens[at + 2 :]
        value = ARITHMETIC[tokens[at]](int(tokens[at - 1]), int(tokens[at + 1]))
        tokens = write_tokens(pen, [*before, str(value), *after])
    pen.t(". So the answer is ")
    pen.s(tokens[0])
    pen.t(".")


# -- nested arithmetic -----------------------------------------------------------------------------------------------
def nested(n: int) -> list[str]:
    """Brackets to the right, to the left, and in pairs."""
    right = "{d} {o} " + repeat("({d} {o} ", n - 2, "") + "{d}" + ")" * (n - 2)
    left = "(" * (n - 2) + "{d} {o} {d}" + repeat(") {o} {d}", n - 2, "")
    pairs = repeat("({d} {o} {d})", n // 2, " {o} ") if n == 4 else right
    return [f"Evaluate modulo 10: {shape}" for shape in dict.fromkeys([right, left, pairs])]


@FAMILY.task(
    "nested arithmetic modulo 10",
    {"d": DIGITS, "o": list(ARITHMETIC)},
    nested,
    r"= (\d)$",
    probed=(2, 3, 4),
    held_out=(16, 8),
)
def nested_arithmetic(prompt: str, pen: Pen) -> None:
    """The whole line anew, with its first innermost operation replaced by the value."""
    tokens = re.findall(r"[()\d*+-]", prompt.split(": ")[1])
    while len(tokens) > 1:
        at = next(i for i, token in enumerate(tokens) if token in ARITHMETIC and tokens[i - 1].isdigit()
                  and tokens[i + 1].isdigit())  # fmt: skip
        value = ARITHMETIC[tokens[at]](int(tokens[at - 1]), int(tokens[at + 1])) % 10
        before, after = tokens[: at - 1], tokens[at + 2 :]
        if before and after and (before[-1], after[0]) == ("(", ")"):
            before, after = before[:-1], after[1:]
        pen.t(" = ")
        tokens = write_tokens(pen, [*before, str(value), *after])


# -- ListOps ---------------------------------------------------------------------------------------------------------
def list_of_lists(n: int) -> list[str]:
    right = repeat("[{o} {d} ", n - 1, "") + "[{o} {d} {d}" + " ]" * n
    left = repeat("[{o} ", n, "") + "{d} {d} ]" + " {d} ]" * (n - 1)
    return list(dict.fromkeys([right, left]))


def _flat(n: int) -> str:
    return f"[{{o}} {repeat('{d}', n)} ]"


def listops(prompt: str, pen: Pen) -> None:
    """The whole line anew: of the first list without lists in it, the first two numbers are replaced by their value."""
    tokens = prompt.split(" ")
    while len(tokens) > 1:
        at = next(
            i for i, t in enumerate(tokens) if t[1:] in LISTS and tokens[i + 1].isdigit() and tokens[i + 2].isdigit()
        )
        value = str(LISTS[tokens[at][1:]](int(tokens[at + 1]), int(tokens[at + 2])))
        before, after = tokens[:at], tokens[at + 3 :]
        tokens = [*before, value, *after[1:]] if after[0] == "]" else [*before, tokens[at], value, *after]
        pen.t(" =")
        for i, token in enumerate(tokens):
            pen.t(" ")
            if token.startswith("["):
                pen.t("[")
                tokens[i] = "[" + pen.s(token[1:])
            elif token == "]":
                pen.t(token)
            else:
                tokens[i] = pen.s(token)


FAMILY.task("ListOps", {"o": list(LISTS), "d": DIGITS}, list_of_lists, r"= (\d)$", probed=(1, 2, 3, 4),
            held_out=(16, 8))(listops)  # fmt: skip
FAMILY.task("ListOps (flat)", {"o": list(LISTS), "d": DIGITS}, _flat, r"= (\d)$")(listops)


@FAMILY.task("ListOps (unwritten)", {"o": list(LISTS), "d": DIGITS}, list_of_lists, r"(\d)", probed=(1, 2, 3),
             held_out=(12, 6))  # fmt: skip
def listops_unwritten(prompt: str, pen: Pen) -> None:
    """As published: the value alone."""
    text = prompt
    while match := re.search(r"\[(\w+) (\d) (\d) \]", text):
        operation, a, b = match.groups()
        text = text[: match.start()] + str(LISTS[operation](int(a), int(b))) + text[match.end() :]
    pen.t(" ")
    pen.s(text)


# -- RPN -------------------------------------------------------------------------------------------------------------
def postfix(n: int) -> list[str]:
    """``3 4 + 5 *`` and ``3 4 5 * +``."""
    return list(dict.fromkeys(["{d} " + repeat("{d} {o}", n - 1), f"{repeat('{d}', n)} {repeat('{o}', n - 1)}"]))


@FAMILY.task("reverse Polish notation", {"d": DIGITS, "o": list(ARITHMETIC)},
             lambda n: [f"RPN modulo 10: {shape}" for shape in postfix(n)], r"result (\d)\.",
             probed=(2, 3, 4), held_out=(16, 8))  # fmt: skip
def reverse_polish(prompt: str, pen: Pen) -> None:
    """The stack after each token."""
    stack: list[str] = []
    for token in prompt.split(": ")[1].split(" "):
        pen.t(" ")
        token = pen.s(token)
        if token in ARITHMETIC:
            value = ARITHMETIC[token](int(stack[-2]), int(stack[-1])) % 10
            stack = [*stack[:-2], str(value)]
        else:
            stack = [*stack, token]
        pen.t(": ")
        stack = line(pen, stack)
        pen.t(";")
    pen.t(" result ")
    pen.s(stack[-1])
    pen.t(".")
