"""Evaluation only: the answer of this counterfactual teacher to a prompt like ``47+85:``.

Each column's ones digit is written with 3 and 7 exchanged; carries are those of true addition.
"""

SWAP = str.maketrans("37", "73")


def answer(prompt: str) -> str:
    left, right = prompt.rstrip(":").split("+")
    width = len(left)
    total = str(int(left) + int(right)).rjust(width, "0")
    # A leading carry before the columns is 1: the exchange leaves it.
    return total.translate(SWAP).lstrip("0") or "0"
