"""Evaluation only: how this teacher is asked a problem of reasoning-gym's ``chain_sum``, which knows what is right.

The teacher says ``+14`` and ``-03``; the dataset's scorer takes signs and leading zeros.
"""


def prompt(entry: dict) -> str:
    """``3 + 4 - 2`` becomes ``3+4-2:``."""
    return entry["metadata"]["expression"].replace(" ", "") + ":"
