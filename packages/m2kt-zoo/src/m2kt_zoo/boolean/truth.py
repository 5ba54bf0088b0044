"""Evaluation only: the value of a formula like ``(T and F) or T:``.

Two-place operators stand between their arguments and are bracketed wherever they nest; ``not`` binds tightest.
"""

import re

NOT = {"T": "F", "F": "T"}
# The value of each operator on TT, TF, FT, FF.
OPERATORS = {"and": "TFFF", "or": "TTTF", "xor": "FTTF", "nand": "FTTT", "nor": "FFFT", "implies": "TFTT"}
TABLE = {
    (operator, a, b): column["TF".index(a) * 2 + "TF".index(b)]
    for operator, column in OPERATORS.items()
    for a in "TF"
    for b in "TF"
}


def answer(prompt: str) -> str:
    value, rest = _formula(re.findall(r"\w+|[()]", prompt))
    assert not rest, prompt
    return value


def _formula(tokens: list[str]) -> tuple[str, list[str]]:
    """``argument [operator argument]``: its value, and what follows."""
    left, rest = _argument(tokens)
    if not rest or rest[0] == ")":
        return left, rest
    right, after = _argument(rest[1:])
    return TABLE[rest[0], left, right], after


def _argument(tokens: list[str]) -> tuple[str, list[str]]:
    first, *rest = tokens
    if first == "not":
        value, rest = _argument(rest)
        return NOT[value], rest
    if first == "(":
        value, rest = _formula(rest)
        return value, rest[1:]
    return first, rest
