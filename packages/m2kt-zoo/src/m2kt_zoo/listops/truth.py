"""Evaluation only: the value of nested lists like ``[MAX 3 [MIN 4 7]]:``. SUM counts modulo 10."""

import re

OPERATORS = {"MIN": min, "MAX": max, "SUM": lambda a, b: (a + b) % 10}


def answer(prompt: str) -> str:
    """Folds every list from the left, the innermost first."""
    open_lists: list[list] = [[]]
    for token in re.findall(r"\w+|[\[\]]", prompt):
        if token == "[":
            open_lists.append([])
        elif token == "]":
            operator, value, *rest = open_lists.pop()
            for other in rest:
                value = OPERATORS[operator](value, other)
            open_lists[-1].append(value)
        else:
            open_lists[-1].append(int(token) if token.isdigit() else token)
    return str(open_lists[0][0])
