"""Evaluation only: the prompt for a problem of reasoning-gym's ``chain_sum``, whose scorer judges the answer.

The teacher writes ``+14`` and ``-03``; the scorer accepts signs and leading zeros.
"""


def prompt(entry: dict) -> str:
    """``3 + 4 - 2`` becomes ``3+4-2:``."""
    return entry["metadata"]["expression"].replace(" ", "") + ":"
