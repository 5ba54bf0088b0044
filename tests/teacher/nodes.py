"""Node data from a table of symbols, without a teacher."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from m2kt.teacher._node_data import NodeData

Row = tuple[int, ...]


def node_of(
    rows: Sequence[Row],
    outputs: Sequence[int | str],
    effect: Sequence[float] | None = None,
    copy_rate: Sequence[float] | None = None,
) -> NodeData:
    """A node whose samples have the symbols ``rows`` and write a symbol (int) or structure (str) next."""
    columns_NU = np.array(rows, dtype=np.int32)
    unknown = [float("nan")] * columns_NU.shape[1]
    return NodeData(
        columns_NU,
        np.array([o if isinstance(o, int) else -1 for o in outputs], dtype=np.int32),
        [f" {o}" if isinstance(o, int) else o for o in outputs],
        [" " if isinstance(o, int) else "" for o in outputs],
        np.array(effect or unknown, dtype=np.float64),
        np.array(copy_rate or unknown, dtype=np.float64),
        [frozenset(column_N.tolist()) for column_N in columns_NU.T],
    )


def function_node(function: Callable[[Row], int | str], values: int, arity: int, repeats: int = 1) -> NodeData:
    """A node that writes ``function`` of its units, on all combinations of symbols, ``repeats`` times."""
    rows = list(itertools.product(range(values), repeat=arity)) * repeats
    return node_of(rows, [function(row) for row in rows])
