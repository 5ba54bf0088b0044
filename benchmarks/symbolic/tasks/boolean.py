"""Truth values and brackets: boolean expressions, Dyck languages and web of lies of BIG-Bench Hard."""

from __future__ import annotations

import re

from benchmarks.symbolic._pens import Pen
from benchmarks.symbolic.tasks._family import NAMES, Family, each, group, line, repeat

FAMILY = Family()
FORMATS, WRITERS = FAMILY.formats, FAMILY.writers

ANSWER = r"So the answer is (.+)\."
TRUTH = {"True": True, "False": False}
OPERATORS = {"and": lambda a, b: TRUTH[a] and TRUTH[b], "or": lambda a, b: TRUTH[a] or TRUTH[b]}
CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}
BRACKETS = [*CLOSING, *CLOSING.values()]


@FAMILY.task(
    "boolean expressions",
    {"v": ["True", "False", "not True", "not False"], "o": ["and", "or"]},
    lambda n: f"Q: {repeat('{v}', n, ' {o} ')} is\nA:",
    ANSWER,
)
def boolean_expressions(prompt: str, pen: Pen) -> None:
    """Nots, then ands, then ors: one line for each, one operation a line after the nots."""
    text = prompt.removeprefix("Q: ").removesuffix(" is\nA:")
    tokens = re.findall(r"(?:not )?(?:True|False)|and|or", text)
    tokens = [str(not TRUTH[t[4:]]) if t.startswith("not ") else t for t in tokens]
    pen.t(" Let's think step by step. Z = ")
    tokens = line(pen, tokens)
    while len(tokens) > 1:
        at = tokens.index("and") if "and" in tokens else 1
        value = str(OPERATORS[tokens[at]](tokens[at - 1], tokens[at + 1]))
        pen.t(" = ")
        tokens = line(pen, [*tokens[: at - 1], value, *tokens[at + 2 :]])
    pen.t(". So the answer is ")
    pen.s(tokens[0])
    pen.t(".")


def nested(n: int) -> list[str]:
    """To the right and to the left."""
    right = repeat("{v} {o} ( ", n - 2, "") + "{v} {o} {v}" + " )" * (n - 2)
    left = "( " * (n - 2) + "{v} {o} {v}" + repeat(" ) {o} {v}", n - 2, "")
    return [f"Q: {shape} is\nA:" for shape in dict.fromkeys([right, left])]


@FAMILY.task(
    "boolean expressions in brackets",
    {"v": ["True", "False"], "o": ["and", "or"]},
    nested,
    ANSWER,
    probed=(2, 3, 4),
    held_out=(16, 8),
)
def boolean_brackets(prompt: str, pen: Pen) -> None:
    """The whole line is written anew with its first innermost operation replaced by the value."""
    tokens = prompt.removeprefix("Q: ").removesuffix(" is\nA:").split(" ")
    pen.t(" Let's think step by step. Z")
    while len(tokens) > 1:
        at = next(i for i in range(1, len(tokens)) if tokens[i] in OPERATORS and tokens[i + 1] in TRUTH
                  and tokens[i - 1] in TRUTH)  # fmt: skip
        value = str(OPERATORS[tokens[at]](tokens[at - 1], tokens[at + 1]))
        before, after = tokens[: at - 1], tokens[at + 2 :]
        if before and after and (before[-1], after[0]) == ("(", ")"):
            before, after = before[:-1], after[1:]
        tokens = []
        pen.t(" =")
        for token in [*before, value, *after]:
            pen.t(" ")
            if token in ("(", ")"):
                pen.t(token)
                tokens.append(token)
            else:
                tokens.append(pen.s(token))
    pen.t(". So the answer is ")
    pen.s(tokens[0])
    pen.t(".")


@FAMILY.task(
    "dyck languages",
    {"b": BRACKETS},
    lambda n: (
        "Q: Complete the rest of the sequence, making sure that the parentheses are closed properly. "
        f"Input: {repeat('{b}', n)}\nA:"
    ),
    ANSWER,
)
def dyck_languages(prompt: str, pen: Pen) -> None:
    """The stack after each bracket. Slots also draw closing brackets that close nothing: these are passed over."""
    stack: list[str] = []
    pen.t(" We should process each input one by one and keep track of the stack configuration. stack: empty.")
    for bracket in group(r"Input: (.*)\nA:", prompt).split(" "):
        pen.t(" ")
        bracket = pen.s(bracket)
        if bracket in CLOSING:
            stack = [*stack, bracket]
        elif stack and CLOSING.get(stack[-1]) == bracket:
            stack = stack[:-1]
        pen.t(" ; stack: ")
        stack = _stack(pen, stack)
        pen.t(".")
    pen.t(" Now, we have reached the end. The final stack is ")
    stack = _stack(pen, stack)
    pen.t(". So the answer is ")
    _stack(pen, [CLOSING[bracket] for bracket in reversed(stack)])
    pen.t(".")


def _stack(pen: Pen, stack: list[str]) -> list[str]:
    if not stack:
        pen.t("empty")
    return line(pen, stack)


@FAMILY.task(
    "valid parentheses",
    {"b": ["(", ")", "[", "]"]},
    lambda n: f"Q: Is the string {repeat('{b}', n)} balanced?\nA:",
    r"So the answer is (yes|no)\.",
)
def valid_parentheses(prompt: str, pen: Pen) -> None:
    """Ends at the first bracket that closes nothing."""
    stack: list[str] = []
    for bracket in group(r"string (.*) balanced", prompt).split(" "):
        pen.t(" Read ")
        bracket = pen.s(bracket)
        if bracket in CLOSING:
            stack = [*stack, bracket]
        elif stack and CLOSING.get(stack[-1]) == bracket:
            stack = stack[:-1]
        else:
            pen.t(": it closes nothing. So the answer is no.")
            return
        pen.t(": the stack is ")
        stack = _stack(pen, stack)
        pen.t(".")
    if stack:
        pen.t(" The stack is not empty. So the answer is no.")
    else:
        pen.t(" The stack is empty. So the answer is yes.")


@FAMILY.task(
    "web of lies",
    {"name": NAMES, "does": ["tells the truth", "lies"]},
    lambda n: (
        "Q: Question: {p0=name} {does}. "
        + each(n, lambda i: f"{{p{i + 1}=name}} says {{p{i}=name}} {{does}}.")
        + f" Does {{p{n}=name}} tell the truth?\nA:"
    ),
    r"So the answer is (Yes|No)\.",
)
def web_of_lies(prompt: str, pen: Pen) -> None:
    """Each speaker is judged by what is known of the one before. The names may be alike."""
    first, *statements = re.findall(r"(\w+) (?:says (\w+) )?(tells the truth|lies)", prompt)
    name, does = first[0], first[2]
    pen.t(" Let's think step by step.")
    for speaker, about, claim in statements:
        pen.t(" ")
        speaker, about, claim = _statement(pen, speaker, about, claim)
        pen.t(". Since we know that ")
        about = pen.s(name)
        pen.t(" ")
        does = pen.s(does)
        pen.t(", ")
        speaker = pen.s(speaker)
        pen.t(" ")
        does = pen.s("tells the truth" if claim == does else "lies")
        pen.t(".")
        name = speaker
    pen.t(" Now, the question asks: Does ")
    name = pen.s(group(r"Does (\w+) tell", prompt))
    pen.t(" tell the truth? We know that ")
    pen.s(name)
    pen.t(" ")
    does = pen.s(does)
    pen.t(". So the answer is ")
    pen.s("Yes" if does == "tells the truth" else "No")
    pen.t(".")


def _statement(pen: Pen, speaker: str, about: str, claim: str) -> tuple[str, str, str]:
    speaker = pen.s(speaker)
    pen.t(" says ")
    about = pen.s(about)
    pen.t(" ")
    return speaker, about, pen.s(claim)
