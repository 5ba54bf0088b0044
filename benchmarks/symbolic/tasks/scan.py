"""SCAN: commands to actions, without steps in between."""

from __future__ import annotations

import re

from benchmarks.symbolic._pens import Pen
from benchmarks.symbolic.tasks._family import Family, line

FAMILY = Family()
FORMATS, WRITERS = FAMILY.formats, FAMILY.writers

CLAUSES = [
    "{verb} {times}", "{verb} {way}", "{verb} around {way}", "turn {way} {times}", "{verb} opposite {way} {times}",
    "{verb}",
]  # fmt: skip
SLOTS = {"verb": ["walk", "look", "run", "jump"], "way": ["left", "right"], "times": ["twice", "thrice"]}


def actions(clause: str) -> list[str]:
    """The actions of a command without "and" and "after"."""
    words = clause.split(" ")
    times = {"twice": 2, "thrice": 3}.get(words[-1], 1)
    way = next((word for word in words if word in ("left", "right")), None)
    turn = [f"I_TURN_{way.upper()}"] if way else []
    act = [] if words[0] == "turn" else [f"I_{words[0].upper()}"]
    if "around" in words:
        return (turn + act) * 4 * times
    return ((turn * 2 if "opposite" in words else turn) + act) * times


def commands(n: int) -> list[str]:
    """Several orders of the kinds of clauses."""
    return [
        "IN: " + " and ".join(CLAUSES[(i + start) % len(CLAUSES)] for i in range(n)) + " OUT:" for start in (0, 2, 3)
    ]


@FAMILY.task("SCAN", SLOTS, commands, r"(.+)", probed=(1, 2, 3), held_out=(12, 6))
def scan(prompt: str, pen: Pen) -> None:
    """Clauses one after the other."""
    pen.t(" ")
    line(pen, [action for clause in prompt[4:-5].split(" and ") for action in actions(clause)])


@FAMILY.task(
    "SCAN (after)",
    SLOTS,
    lambda n: "IN: " + " after ".join(CLAUSES[i % len(CLAUSES)] for i in range(n)) + " OUT:",
    r"(.+)",
    probed=(1, 2, 3),
    held_out=(12, 6),
)
def scan_after(prompt: str, pen: Pen) -> None:
    """The last clause is done first."""
    pen.t(" ")
    line(pen, [action for clause in prompt[4:-5].split(" after ")[::-1] for action in actions(clause)])


@FAMILY.task(
    "commands to actions (one verb)",
    {"command": [f"{verb} {times}" for verb in SLOTS["verb"] for times in SLOTS["times"]] + SLOTS["verb"]},
    lambda n: "Do: " + ", then ".join(["{command}"] * n) + ".",
    r"(.+)",
)
def repeated_commands(prompt: str, pen: Pen) -> None:
    """A value of a slot decides how many actions are written."""
    pen.t(" ")
    line(pen, re.sub(r"I_", "", " ".join(a for c in prompt[4:-1].split(", then ") for a in actions(c))).split(" "))
