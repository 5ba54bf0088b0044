"""A state that each sentence changes: tracking shuffled objects and navigate of BIG-Bench Hard, coin flip."""

from __future__ import annotations

import re
from functools import partial

from benchmarks.symbolic._pens import Pen, Writer
from benchmarks.symbolic.tasks._family import NAMES, Family, listed, repeat

FAMILY = Family()
FORMATS, WRITERS = FAMILY.formats, FAMILY.writers

COLOURS = ["red", "blue", "green", "yellow", "pink", "white", "black", "orange", "purple", "brown"]
PLAYERS = ["Alice", "Bob", "Claire", "Dave", "Eve", "Fred", "Gertrude"]
AXES = ["positive y-axis", "positive x-axis", "negative y-axis", "negative x-axis"]  # clockwise
STEPS = {"positive y": (0, 1), "positive x": (1, 0), "negative y": (0, -1), "negative x": (-1, 0)}
FLIPS = ["flips", "does not flip"]


# -- tracking shuffled objects ---------------------------------------------------------------------------------------
def balls(players: list[str], swaps: int) -> str:
    """A player may swap with herself: nothing changes then. Colours may be alike."""
    holds = listed([f"{player} has a {{colour}} ball" for player in players])
    steps = ["First, "] + ["Then, "] * (swaps - 2) + ["Finally, "]
    return (
        f"Q: {listed(players)} are playing a game. At the start of the game, they are each holding a ball: {holds}. "
        "As the game progresses, the players trade balls. "
        + "".join(f"{step}{{player}} and {{player}} swap balls. " for step in steps[-swaps:])
        + "At the end of the game, {player} has the\nA:"
    )


def tracking(players: list[str], numbered: bool = False) -> Writer:
    """Who holds what, written after each swap. ``numbered``: (0), (1), ... before the steps, as in BIG-Bench Hard; the
    numbers of held-out sizes are then in no probed answer."""

    def writer(prompt: str, pen: Pen) -> None:
        start, *swaps, asked = re.split(r"(?:First|Then|Finally), |At the end of the game, ", prompt)
        holds = dict(re.findall(r"(\w+) has a (\w+) ball", start))

        def write_state() -> None:
            for i, player in enumerate(players):
                pen.t(", " if i else " ")
                pen.s(player)
                pen.t(": ")
                holds[player] = pen.s(holds[player])
            pen.t(".")

        pen.t(" Let's think step by step.")
        pen.t(" (0)" if numbered else "")
        pen.t(" At the start:")
        write_state()
        for i, swap in enumerate(swaps):
            a, b = swap.split(" swap")[0].split(" and ")
            pen.t(f" ({i + 1}) " if numbered else " ")
            a = pen.s(a)
            pen.t(" and ")
            b = pen.s(b)
            pen.t(" swap balls:")
            holds[a], holds[b] = holds[b], holds[a]
            write_state()
        pen.t(" At the end of the game, ")
        player = pen.s(asked.split(" has")[0])
        pen.t(" has the ")
        colour = pen.s(holds[player])
        pen.t(" ball. So the answer is ")
        pen.s(colour)
        pen.t(".")

    return writer


for _n, _numbered, _probed, _held_out in (
    (3, False, (2, 3, 4, 6), (24, 12)),
    (5, False, (2, 3, 4, 5), (20, 10)),
    (7, False, (2, 3, 4), (16, 8)),
    (3, True, (2, 3, 4, 6), (24, 12)),
):
    _players = PLAYERS[:_n]
    FAMILY.task(
        f"tracking shuffled objects ({_n} objects{', numbered steps' if _numbered else ''})",
        {"player": _players, "colour": COLOURS[: _n + 3]},
        partial(balls, _players),
        r"So the answer is (\w+)\.",
        probed=_probed,
        held_out=_held_out,
    )(tracking(_players, _numbered))


# -- navigate --------------------------------------------------------------------------------------------------------
def route(n: int) -> str:
    return (
        "Q: If you follow these instructions, do you return to the starting point? "
        f"{repeat('{move}.', n)}\nOptions:\n- Yes\n- No\nA:"
    )


def _position(pen: Pen, x: int, y: int) -> tuple[int, int]:
    pen.t("(")
    x = int(pen.s(str(x)))
    pen.t(", ")
    y = int(pen.s(str(y)))
    pen.t(")")
    return x, y


def _moves(prompt: str) -> list[str]:
    return prompt.split("? ")[1].split("\n")[0].removesuffix(".").split(". ")


def _conclude(pen: Pen, x: int, y: int) -> None:
    pen.t(" Since ")
    x, y = _position(pen, x, y)
    if (x, y) == (0, 0):
        pen.t(" is (0, 0), we are indeed where we started. So the answer is ")
        pen.s("Yes")
    else:
        pen.t(" is not (0, 0), we are not where we started. So the answer is ")
        pen.s("No")
    pen.t(".")


@FAMILY.task(
    "navigate",
    {"move": ["Turn left", "Turn right", "Turn around", "Take 1 step", "Take 2 steps", "Take 3 steps"]},
    route,
    r"So the answer is (Yes|No)\.",
)
def navigate(prompt: str, pen: Pen) -> None:
    """Longer routes lead to coordinates that shorter ones never reach."""
    turns = {"Turn left": 3, "Turn right": 1, "Turn around": 2}
    x, y, axis = 0, 0, AXES[0]
    pen.t(" Let's think step by step. We start at the origin (0, 0), facing the positive y-axis.")
    for move in _moves(prompt):
        pen.t(" ")
        move = pen.s(move)
        if move in turns:
            axis = AXES[(AXES.index(axis) + turns[move]) % 4]
        else:
            dx, dy = STEPS[axis.removesuffix("-axis")]
            x, y = x + dx * int(move.split()[1]), y + dy * int(move.split()[1])
        pen.t(": ")
        x, y = _position(pen, x, y)
        sign, name = axis.removesuffix("-axis").split()
        pen.t(", facing the ")
        sign = pen.s(sign)
        pen.t(" ")
        axis = f"{sign} {pen.s(name)}-axis"
        pen.t("-axis.")
    _conclude(pen, x, y)


@FAMILY.task(
    "navigate, always facing forward",
    {"move": [f"Take {n} {way}" for n in ("1 step", "2 steps", "3 steps") for way in
              ("left", "right", "forward", "backward")]},
    lambda n: route(n).replace("? {move}", "? Always face forward. {move}", 1),
    r"So the answer is (Yes|No)\.",
)  # fmt: skip
def navigate_forward(prompt: str, pen: Pen) -> None:
    """No turns."""
    ways = {"left": (-1, 0), "right": (1, 0), "forward": (0, 1), "backward": (0, -1)}
    x, y = 0, 0
    pen.t(" Let's think step by step. We start at the origin (0, 0), facing the positive y-axis.")
    for move in _moves(prompt)[1:]:
        pen.t(" ")
        move = pen.s(move)
        _, n, _, way = move.split()
        x, y = x + ways[way][0] * int(n), y + ways[way][1] * int(n)
        pen.t(": ")
        x, y = _position(pen, x, y)
        pen.t(".")
    _conclude(pen, x, y)


# -- coin flip -------------------------------------------------------------------------------------------------------
def coin(n: int) -> str:
    return f"Q: A coin is heads up. {repeat('{name} {flips} the coin.', n)} Is the coin still heads up?\nA:"


def _flips(prompt: str) -> list[tuple[str, str]]:
    return re.findall(r"(\w+) (flips|does not flip) the coin\.", prompt)


@FAMILY.task("coin flip", {"name": NAMES, "flips": FLIPS}, coin, r"So the answer is (yes|no)\.")
def coin_flip(prompt: str, pen: Pen) -> None:
    """As in the chain-of-thought paper: who flipped it, how often, odd or even. The number may exceed those probed."""
    flippers = [name for name, flips in _flips(prompt) if flips == "flips"]
    if flippers:
        pen.t(" The coin was flipped by ")
        standing = []
        for i, name in enumerate(flippers):
            if i:
                pen.t(" and " if i == len(flippers) - 1 else ", ")
            standing.append(pen.s(name))
        flippers = standing
    else:
        pen.t(" The coin was flipped by no one")
    pen.t(". So the coin was flipped ")
    times = int(pen.s(str(len(flippers))))
    pen.t(" time, which is an " if times == 1 else " times, which is an ")
    kind = pen.s("odd" if times % 2 else "even")
    pen.t(" number. The coin started heads up, so after an ")
    kind = pen.s(kind)
    pen.t(" number of flips, it will be ")
    side = pen.s("tails" if kind == "odd" else "heads")
    pen.t(" up. So the answer is ")
    pen.s("yes" if side == "heads" else "no")
    pen.t(".")


@FAMILY.task("coin flip, side by side", {"name": NAMES, "flips": FLIPS}, coin, r"So the answer is (yes|no)\.")
def coin_sides(prompt: str, pen: Pen) -> None:
    """The side that is up after each name."""
    side = "heads"
    pen.t(" The coin is heads up.")
    for name, flips in _flips(prompt):
        pen.t(" ")
        pen.s(name)
        pen.t(" ")
        if pen.s(flips) == "flips":
            side = "tails" if side == "heads" else "heads"
        pen.t(" the coin, so it is ")
        side = pen.s(side)
        pen.t(" up.")
    pen.t(" So the answer is ")
    pen.s("yes" if side == "heads" else "no")
    pen.t(".")
