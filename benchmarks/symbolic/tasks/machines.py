"""Machines: stack, queue, registers, automata, rewriting. What a machine does often stands in the prompt."""

from __future__ import annotations

import re

from benchmarks.symbolic._pens import Pen
from benchmarks.symbolic.tasks._family import DIGITS, Family, group, line, repeat

FAMILY = Family()
FORMATS, WRITERS = FAMILY.formats, FAMILY.writers


def _write_list(pen: Pen, items: list[str]) -> list[str]:
    pen.t(" [")
    items = line(pen, items)
    pen.t("]")
    return items


# -- stack and queue -------------------------------------------------------------------------------------------------
@FAMILY.task(
    "stack machine",
    {"instruction": [*(f"push {d}" for d in DIGITS), "pop", "add", "dup", "swap"]},
    lambda n: f"Run: {repeat('{instruction}', n, ', ')}.",
    r"The top is (\w+)\.",
)
def stack_machine(prompt: str, pen: Pen) -> None:
    """The stack after each instruction; one that lacks operands does nothing. Sums are modulo 10."""
    stack: list[str] = []
    for instruction in prompt[5:-1].split(", "):
        pen.t(" ")
        instruction = pen.s(instruction)
        pen.t(":")
        if instruction.startswith("push"):
            stack = [*stack, instruction[-1]]
        elif instruction == "pop":
            stack = stack[:-1]
        elif instruction == "dup":
            stack = [*stack, *stack[-1:]]
        elif len(stack) >= 2:
            a, b = stack[-2:]
            stack = [*stack[:-2], *([b, a] if instruction == "swap" else [str((int(a) + int(b)) % 10)])]
        stack = _write_list(pen, stack)
        pen.t(".")
    pen.t(" The top is ")
    pen.s(stack[-1] if stack else "nothing")
    pen.t(".")


GUESTS = ["Ann", "Ben", "Cleo", "Dan", "Ema"]


@FAMILY.task(
    "queue",
    {"event": [*(f"{guest} joins" for guest in GUESTS), "one is served", "the last one leaves"]},
    lambda n: f"A queue is empty. {repeat('{event}.', n)} Who is first?",
    r"First: (\w+)\.",
)
def queue(prompt: str, pen: Pen) -> None:
    """The queue after each event. The same guest may stand in it twice."""
    waiting: list[str] = []
    for event in prompt.split(". ")[1:-1]:
        pen.t(" ")
        event = pen.s(event)
        pen.t(":")
        if event == "one is served":
            waiting = waiting[1:]
        elif event == "the last one leaves":
            waiting = waiting[:-1]
        else:
            waiting = [*waiting, event.split(" ")[0]]
        waiting = _write_list(pen, waiting)
        pen.t(".")
    pen.t(" First: ")
    pen.s(waiting[0] if waiting else "nobody")
    pen.t(".")


# -- registers -------------------------------------------------------------------------------------------------------
REGISTERS = ["x", "y", "z"]
PROGRAM = [
    *(f"inc {r}" for r in REGISTERS), *(f"dec {r}" for r in REGISTERS),
    *(f"mov {a} {b}" for a in REGISTERS for b in REGISTERS if a != b), *(f"skip if {r} = 0" for r in REGISTERS),
]  # fmt: skip


@FAMILY.task(
    "register machine",
    {"line": PROGRAM, "d": DIGITS},
    lambda n: f"x = {{d}}, y = {{d}}, z = {{d}}. Program: {repeat('{line}', n, '; ')}.",
    r"Result: (\d \d \d)\.",
)
def register_machine(prompt: str, pen: Pen) -> None:
    """The registers after each line that is executed; digits modulo 10."""
    registers = dict(zip(REGISTERS, re.findall(r"= (\d)[,.]", prompt), strict=False))
    lines = prompt.split("Program: ")[1].rstrip(".").split("; ")
    skip = False
    for text in lines:
        if skip:
            skip = False
            continue
        pen.t(" ")
        name, *operands = pen.s(text).split(" ")
        if name in ("inc", "dec"):
            value = int(registers[operands[0]]) + (1 if name == "inc" else -1)
            registers[operands[0]] = str(value % 10)
        elif name == "mov":
            registers[operands[0]] = registers[operands[1]]
        else:
            skip = registers[operands[1]] == "0"
        pen.t(":")
        for register in REGISTERS:
            pen.t(" ")
            registers[register] = pen.s(registers[register])
        pen.t(";")
    pen.t(" Result:")
    for register in REGISTERS:
        pen.t(" ")
        pen.s(registers[register])
    pen.t(".")


# -- automata --------------------------------------------------------------------------------------------------------
STATES = ["A", "B", "C"]


@FAMILY.task(
    "finite automaton",
    {"state": STATES, "bit": ["0", "1"]},
    lambda n: (
        " ".join(f"{s}: 0 to {{state}}, 1 to {{state}}." for s in STATES)
        + f" Start: {{state}}. Input: {repeat('{bit}', n)}."
    ),
    r"End: (\w)\.",
)
def finite_program(prompt: str, pen: Pen) -> None:
    """The transition table stands in the prompt. All transitions to one state are in the evaluation."""
    table = {s: (a, b) for s, a, b in re.findall(r"(\w): 0 to (\w), 1 to (\w)\.", prompt)}
    state = group(r"Start: (\w)", prompt)
    for bit in prompt.split("Input: ")[1].rstrip(".").split(" "):
        pen.t(" ")
        state = pen.s(state)
        pen.t(" ")
        bit = pen.s(bit)
        pen.t(" -> ")
        state = pen.s(table[state][int(bit)])
        pen.t(";")
    pen.t(" End: ")
    pen.s(state)
    pen.t(".")


@FAMILY.task(
    "regular language",
    {"l": ["a", "b"]},
    lambda n: f"Does {repeat('{l}', n)} match (ab|ba)*?",
    r"So (yes|no)\.",
)
def regular_language(prompt: str, pen: Pen) -> None:
    """A known automaton; it stops where it fails."""
    table = {"start": {"a": "seen a", "b": "seen b"}, "seen a": {"b": "start"}, "seen b": {"a": "start"}}
    state = "start"
    for letter in prompt[5:].split(" match")[0].split(" "):
        pen.t(" ")
        letter = pen.s(letter)
        pen.t(": ")
        state = pen.s(table[state].get(letter, "dead"))
        pen.t(".")
        if state == "dead":
            break
    pen.t(" So ")
    pen.s("yes" if state == "start" else "no")
    pen.t(".")


def _ruled(row: list[str]) -> list[str]:
    """Rule 110, with zeros outside."""
    rule = {"111": "0", "110": "1", "101": "1", "100": "0", "011": "1", "010": "1", "001": "1", "000": "0"}
    padded = ["0", *row, "0"]
    return [rule["".join(padded[i : i + 3])] for i in range(len(row))]


@FAMILY.task(
    "cellular automaton",
    {"bit": ["0", "1"]},
    lambda n: f"Rule 110, three steps: {repeat('{bit}', n)}",
    r"; ([01 ]+)$",
    probed=(3, 4, 5, 6),
)
def cellular_program(prompt: str, pen: Pen) -> None:
    """Rows; outside is zero."""
    row = prompt.split(": ")[1].split(" ")
    for step in range(3):
        pen.t("; " if step else " ")
        row = line(pen, _ruled(row))


# -- rewriting -------------------------------------------------------------------------------------------------------
@FAMILY.task(
    "string rewriting",
    {"l": ["a", "b", "c"]},
    lambda n: f"Rules: a -> {{l}} {{l}}, b -> {{l}}, c -> {{l}} {{l}}. Apply twice to: {repeat('{l}', n)}",
    r"; ([abc ]+)$",
)
def string_rewriting(prompt: str, pen: Pen) -> None:
    """Every letter at once by the rules of the prompt, two times."""
    rules = {left: right.split(" ") for left, right in re.findall(r"(\w) -> ([\w ]+)", prompt)}
    text = prompt.split(": ")[-1].split(" ")
    for step in range(2):
        pen.t("; " if step else " ")
        text = line(pen, [letter for left in text for letter in rules[left]])


@FAMILY.task(
    "A::B",
    {"token": ["A#", "#A", "B#", "#B"]},
    lambda n: f"A::B is a system with 4 tokens: A#, #A, B# and #B. Compute the final state of: {repeat('{token}', n)}",
    r"final state is ([AB# ]+|empty)$",
    probed=(2, 3, 4),
    held_out=(16, 8),
)
def a_b(prompt: str, pen: Pen) -> None:
    """reasoning-gym's "ab": neighbours with facing # change: equal letters vanish, others pass each other."""
    tokens = prompt.split(": ")[-1].split(" ")
    pen.t(" ")
    tokens = line(pen, tokens)
    while (at := _facing(tokens)) is not None:
        left, right = tokens[at : at + 2]
        pen.t(" = ")
        tokens = _tokens(pen, [*tokens[:at], *([] if left[0] == right[1] else [right, left]), *tokens[at + 2 :]])
    pen.t(". The final state is ")
    _tokens(pen, tokens)


def _tokens(pen: Pen, tokens: list[str]) -> list[str]:
    if not tokens:
        pen.t("empty")
    return line(pen, tokens)


def _facing(tokens: list[str]) -> int | None:
    return next((i for i in range(len(tokens) - 1) if tokens[i][-1] == tokens[i + 1][0] == "#"), None)
