"""Rules while they are learnt from samples. Letters: N samples, A arguments, R rows, S symbols."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Arguments = tuple[int, ...]


class _DenseTable(NamedTuple):
    axes: list[NDArray[np.int64]]  # by argument: symbol to index
    cells: Ints  # output by indices, -1 where there is no row
    is_output_S: NDArray[np.bool_]  # the last entry stands for structure and all further symbols


@dataclass
class DraftRule:
    """A table from argument symbols to counts of outputs."""

    arity: int
    table: dict[Arguments, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    _dense: _DenseTable | None = None  # dropped when a row is learnt
    _shared: bool = False  # a copy uses the same table

    def output(self, arguments: Arguments) -> int:
        """The commonest output of ``arguments``, -1 if there is no such row."""
        counts = self.table.get(arguments)
        return max(counts, key=counts.__getitem__) if counts else -1

    def learn(self, arguments_NA: Ints, output_N: Ints) -> None:
        """Add observed rows."""
        self._dense = None
        if self._shared:
            self.table = defaultdict(Counter, {row: counts.copy() for row, counts in self.table.items()})
            self._shared = False
        for arguments, output in zip(map(tuple, arguments_NA.tolist()), output_N.tolist(), strict=True):
            self.table[arguments][output] += 1

    def copy(self) -> DraftRule:
        """An independent copy; the table is duplicated when either of the two learns."""
        self._shared = True
        return DraftRule(self.arity, self.table, self._dense, True)

    def look_up(self, arguments: Sequence[Ints]) -> Ints:
        """Outputs for one array per argument, -1 where unknown. The arrays broadcast against each other."""
        axes, cells, _ = self._dense_table()
        # One flat index instead of one per axis: sums over few axes are computed before they broadcast.
        flat: NDArray[np.int64] | int = 0
        for axis, symbols in zip(axes, arguments, strict=True):
            flat = flat * int(axis[-1] + 1) + axis[np.minimum(symbols, len(axis) - 1)]
        return cells.ravel()[flat]

    def can_write(self, symbol_N: Ints) -> NDArray[np.bool_]:
        """Whether each symbol is the output of any row."""
        is_output_S = self._dense_table().is_output_S
        return is_output_S[np.minimum(symbol_N, len(is_output_S) - 1)]

    def _dense_table(self) -> _DenseTable:
        if self._dense is None:
            self._dense = self._to_dense()
        return self._dense

    def _to_dense(self) -> _DenseTable:
        """Symbols that an argument never had, and structure (-1), map to the last index, whose cells stay -1."""
        rows_RA = np.array(list(self.table), dtype=np.int32)
        axes = []
        for column_R in rows_RA.T:
            symbols = np.unique(column_R)
            axis = np.full(int(symbols[-1]) + 2, len(symbols), dtype=np.int64)
            axis[symbols] = np.arange(len(symbols))
            axes.append(axis)
        cells = np.full([int(axis[-1]) + 1 for axis in axes], -1, dtype=np.int32)
        indices = tuple(axis[column_R] for axis, column_R in zip(axes, rows_RA.T, strict=True))
        cells[indices] = output_R = [self.output(row) for row in self.table]
        is_output_S = np.zeros(max(output_R) + 2, dtype=bool)
        is_output_S[output_R] = True
        return _DenseTable(axes, cells, is_output_S)


@dataclass
class RuleSet:
    """All rules found so far, and how often the current template uses each tuple of argument units."""

    rules: list[DraftRule] = field(default_factory=list)
    used: Counter[Arguments] = field(default_factory=Counter)

    def copy(self) -> RuleSet:
        """An independent copy."""
        return RuleSet([rule.copy() for rule in self.rules], self.used.copy())
