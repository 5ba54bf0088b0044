"""Graphs whose edges stand in the prompt: breadth-first search, neighbours, pointers."""

from __future__ import annotations

import re

from benchmarks.symbolic._pens import Pen
from benchmarks.symbolic.tasks._family import DIGITS, Family, group, line, repeat

FAMILY = Family()
FORMATS, WRITERS = FAMILY.formats, FAMILY.writers


def edges(prompt: str) -> list[tuple[str, str]]:
    return re.findall(r"(\d)-(\d)", prompt)


@FAMILY.task(
    "breadth-first search",
    {"n": DIGITS},
    lambda n: f"Edges: {repeat('{n}-{n}', n, ', ')}. Breadth-first search from {{n}}:",
    r"Order: (.+)\.",
)
def breadth_first(prompt: str, pen: Pen) -> None:
    """For each node that is visited: its new neighbours in the order of the edges, and the queue."""
    start = group(r"from (\d)", prompt)
    queue, seen, order = [start], [start], []
    while queue:
        pen.t(" Visit ")
        node = pen.s(queue[0])
        order.append(node)
        found = []
        for a, b in edges(prompt):
            other = b if a == node else a if b == node else None
            if other is not None and other not in seen:
                found.append(other)
                seen.append(other)
        pen.t(", queue:" if queue[1:] or found else ", the queue is empty")
        rest = [*queue[1:], *found]
        queue = []
        for item in rest:
            pen.t(" ")
            queue.append(pen.s(item))
        pen.t(".")
    pen.t(" Order: ")
    line(pen, order)
    pen.t(".")


@FAMILY.task(
    "path in a functional graph",
    {"n": DIGITS, "step": ["go", "wait"]},
    lambda n: " ".join(f"{i} to {{n}}." for i in range(10)) + f" Start at {{n}}: {repeat('{step}', n)}.",
    r"End: (\d)$",
)
def follow(prompt: str, pen: Pen) -> None:
    """Pointers stand in the prompt; a step may be to wait."""
    to = dict(re.findall(r"(\d) to (\d)\.", prompt))
    node = group(r"Start at (\d)", prompt)
    pen.t(" ")
    node = pen.s(node)
    for step in prompt.split(": ")[1].rstrip(".").split(" "):
        pen.t(" ")
        step = pen.s(step)
        pen.t(" ")
        node = pen.s(to[node] if step == "go" else node)
    pen.t(". End: ")
    pen.s(node)


@FAMILY.task(
    "neighbours",
    {"n": DIGITS},
    lambda n: f"Edges: {repeat('{n}-{n}', n, ', ')}. Neighbours of {{n}}:",
    r"(\w.*)",
)
def neighbours(prompt: str, pen: Pen) -> None:
    """In the order of the edges, each as often as it is there."""
    node = group(r"of (\d):", prompt)
    others = [b if a == node else a for a, b in edges(prompt) if node in (a, b)]
    pen.t(" " if others else " none")
    line(pen, others, ", ")
