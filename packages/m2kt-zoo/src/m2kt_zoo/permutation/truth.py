"""Evaluation only: five balls under five cups, and eight moves of the cups.

``12345 a e:`` holds the cup of each ball, then the moves: a word of S5, applied from the left. Balls may share a cup.
The five digits of a move are the targets of cups 1 to 5; a to d exchange neighbours, e and f rotate.
"""

MOVES = {
    "a": "21345", "b": "13245", "c": "12435", "d": "12354", "e": "23451", "f": "51234", "g": "54321", "h": "24135",
}  # fmt: skip
TABLE = {(move, cup): goes_to[int(cup) - 1] for move, goes_to in MOVES.items() for cup in "12345"}


def answer(prompt: str) -> str:
    cups, *moves = prompt.rstrip(":").split()
    for move in moves:
        cups = "".join(TABLE[move, cup] for cup in cups)
    return cups
