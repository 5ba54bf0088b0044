"""What may be copied or looked up in a table: decision lists of actions, and the arguments of a rule.

Letters: N rows, R rows left, X actions, Q questions, C columns, A arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from m2kt.packet._pointers import Decision, Relation
from m2kt.teacher.program._candidates import Column
from m2kt.teacher.program._evaluate import Evaluator
from m2kt.teacher.program._traces import Ints

UNKNOWN_ROW = -1
MOSTLY_KNOWN = 0.7  # share of rows that a known rule must have to be used again
RANKED_KNOWN = 24  # rows on which tuples of pointers are tried
FIRST_KNOWN = 6  # rows on which all of them are
MAX_TUPLES = 40
COMBINED = {2: 32, 3: 18}  # by arity: cheapest pointers of which every set is tried
BEAM = 10
RANKED_ROWS = 500  # rows on which sets of arguments are ranked
LEAST_REPEATED = 8  # rows of a table that must have been seen again
LEAST_SHARE = 0.6  # and as a share of its rows
LEAST_OWN = 4  # rows that one context has alone, from which it must repeat them
CHANCE_BITS = 8.0  # by which a clause or a table must beat the best of so many by chance
COST_ROWS = 1.0  # rows that a clause must explain more for each unit of its cost


def row_numbers(columns_NA: Ints) -> NDArray[np.intp]:
    """Equal rows get equal numbers, without gaps."""
    key_N = np.zeros(len(columns_NA), dtype=np.int64)
    for column_N in columns_NA.T:
        low = int(column_N.min(initial=0))
        key_N = key_N * (int(column_N.max(initial=0)) - low + 1) + column_N - low
    return np.unique(key_N, return_inverse=True)[1]


def majority(row_N: NDArray[np.intp], output_N: Ints) -> Ints:
    """The commonest output of each row number."""
    if not len(row_N):
        return np.empty(0, dtype=np.int32)
    low, n_rows = int(output_N.min()), int(row_N.max()) + 1
    n = int(output_N.max()) - low + 1
    count_RO = np.bincount(row_N * n + (output_N - low), minlength=n_rows * n).reshape(n_rows, n)
    return (count_RO.argmax(1) + low).astype(np.int32)  # type: ignore[no-any-return]


def is_no_chance(output_N: Ints, size: int, n_tried: int) -> bool:
    """Whether enough rows of a table were seen again to tell it from chance, and from a table of all rows.

    Args:
        size: rows of the table.
        n_tried: tables among which it was found.
    """
    n = len(output_N)
    share_O = np.unique(output_N, return_counts=True)[1] / n
    bits = -n * float(share_O @ np.log2(share_O)) - size * np.log2(max(2, len(share_O)))
    return n - size >= max(LEAST_REPEATED, LEAST_SHARE * size) and bits >= CHANCE_BITS + np.log2(n_tried)


def repeats(row_N: NDArray[np.intp], context_N: Ints) -> bool:
    """Whether each context repeats the rows of a table that no other context has; else it is learnt by heart there.

    Args:
        row_N: number of the table's row at each step.
        context_N: number of the step's context.
    """
    pair = np.unique(np.stack([row_N, context_N], 1), axis=0)
    n_contexts_R = np.bincount(pair[:, 0])
    own_N = n_contexts_R[row_N] == 1
    for context in np.unique(context_N[own_N]).tolist():
        own = row_N[own_N & (context_N == context)]
        size = len(np.unique(own))
        if size >= LEAST_OWN and len(own) - size < LEAST_SHARE * size:
            return False
    return True


@dataclass
class Actions:
    """Copies and literals, and the rows that each is right on. Letters: X actions, Q questions, R rows left."""

    make: list[Callable[[], Decision]]
    fits_XN: NDArray[np.bool_]
    cost_X: NDArray[np.float64]
    chance: float  # share of rows that writing the commonest symbol would get right

    def on_all(self, left: NDArray[np.intp]) -> Decision | None:
        """The cheapest action that is right on all rows."""
        fitting = np.flatnonzero(self.fits_XN[:, left].all(1))
        return self.make[int(fitting[self.cost_X[fitting].argmin()])]() if len(fitting) else None

    def clause(
        self, left: NDArray[np.intp], answer_QN: NDArray[np.float32], cost_Q: NDArray[np.float64]
    ) -> tuple[int, bool, Decision] | None:
        """The question, its answer, and the action that is right on all rows with that answer: of most rows."""
        misfit_XR = 1.0 - self.fits_XN[:, left].astype(np.float32)
        yes_QR = np.ascontiguousarray(answer_QN[:, left])
        wrong_QX = yes_QR @ misfit_XR.T
        all_X = misfit_XR.sum(1)
        n_yes_Q = yes_QR.sum(1)
        best: tuple[float, int, bool, int] | None = None
        # what so many questions and actions would get right by chance
        least = (CHANCE_BITS + np.log2(max(2, wrong_QX.size))) / max(0.05, -np.log2(min(0.95, self.chance)))
        for answer in (True, False):
            n_Q = n_yes_Q if answer else len(left) - n_yes_Q
            right_QX = (wrong_QX if answer else all_X - wrong_QX) < 0.5
            for q in np.flatnonzero(right_QX.any(1) & (n_Q >= least) & (n_Q < len(left))).tolist():
                x = int(np.where(right_QX[q], self.cost_X, np.inf).argmin())
                score = float(n_Q[q]) - COST_ROWS * (float(cost_Q[q]) + float(self.cost_X[x]))
                if best is None or score > best[0]:
                    best = score, q, answer, x
        return None if best is None else (best[1], best[2], self.make[best[3]]())


class RuleSearch:
    """The smallest set of pointers of which an output, a symbol or a branch, is a function.

    Args:
        evaluator: of the rows.
        context_N: steps in unlike contexts; what a table says in one of them alone must repeat itself there.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        columns: Sequence[Column],
        budget: int,
        output_N: Ints,
        context_N: Ints | None = None,
    ) -> None:
        self.context_N = context_N
        self.budget = budget  # rows that may contradict
        self.columns: list[Column] = []
        self.names: list[Ints] = []
        self.output_N = output_N
        n_symbols = evaluator.search.traces.n_symbols
        for column in columns:
            name_N = evaluator.unit(column.pointer)
            if ((name_N >= 0) & (name_N < n_symbols)).mean() >= 1 - budget / max(1, len(output_N)):
                self.columns.append(column)
                self.names.append(name_N)

    def relation(self, max_arity: int) -> Relation | None:
        """The table of the outputs as a question."""
        found = self._arguments(max_arity)
        if found is None:
            return None
        name_NA = np.stack([self.names[i] for i in found], 1)
        row_N = row_numbers(name_NA)
        first_R = np.unique(row_N, return_index=True)[1]
        rows = tuple(tuple(row) for row in name_NA[first_R].tolist())
        finds = tuple(majority(row_N, self.output_N).tolist())
        return Relation(of=tuple(self.columns[i].pointer for i in found), rows=rows, finds=finds)

    def find(self, max_arity: int) -> list[Column] | None:
        """The arguments, cheapest first, or None."""
        found = self._arguments(max_arity)
        return None if found is None else [self.columns[i] for i in found]

    def _arguments(self, max_arity: int) -> list[int] | None:
        """Indices of the arguments. Sets are ranked on some of the rows; those that fit are tried on all."""
        n = len(self.output_N)
        some = np.linspace(0, n - 1, min(n, RANKED_ROWS)).astype(np.intp)
        beam: list[tuple[int, ...]] = [()]
        seen: set[tuple[int, ...]] = set()
        for arity in range(1, max_arity + 1):
            # Arguments may say nothing alone (a sign, an operator): cheap ones are tried in all combinations.
            sets = {tuple(sorted({*base, c})) for base in beam for c in range(len(self.columns))}
            sets |= set(combinations(range(min(COMBINED.get(arity, 0), len(self.columns))), arity))
            scored = [
                (self._contradictions(chosen, some)[0], self._cost(chosen), chosen)
                for chosen in sorted(sets - seen)
                if len(chosen) == arity
            ]
            seen |= sets
            fitting = []
            for wrong, cost, chosen in scored:
                if wrong <= self.budget * len(some) / n:
                    wrong, size = self._contradictions(chosen, np.arange(n))
                    if wrong <= self.budget and self._is_told(chosen, size):
                        fitting.append((round(wrong + cost + 0.02 * size, 3), chosen))
            if fitting:
                return sorted(min(fitting)[1], key=lambda i: self.columns[i].cost)
            scored.sort()
            beam = [s[2] for s in scored[:BEAM]]
        return None

    def _is_told(self, chosen: tuple[int, ...], size: int) -> bool:
        """Whether a table of this size is no chance, and each context repeats the rows that no other one has."""
        if not is_no_chance(self.output_N, size, comb(len(self.columns), len(chosen))):
            return False
        return self.context_N is None or repeats(
            row_numbers(np.stack([self.names[i] for i in chosen], 1)), self.context_N
        )

    def _cost(self, chosen: tuple[int, ...]) -> float:
        return sum(self.columns[i].cost for i in chosen)

    def _contradictions(self, chosen: tuple[int, ...], rows: NDArray[np.intp]) -> tuple[int, int]:
        """Rows that differ from the commonest output of their arguments, and the number of arguments' values."""
        row_N, output_N = row_numbers(np.stack([self.names[i][rows] for i in chosen], 1)), self.output_N[rows]
        commonest_R = majority(row_N, output_N)
        return int((commonest_R[row_N] != output_N).sum()), len(commonest_R)


class KnownRule:
    """A table that explains other states, and the pointers by which it would explain this one too."""

    def __init__(self, table: dict[tuple[int, ...], int]) -> None:
        self.arity = len(next(iter(table)))
        rows_RA = np.array(list(table), dtype=np.int64)
        self._axes: list[NDArray[np.int64]] = []
        for column_R in rows_RA.T:
            symbols = np.unique(column_R)
            axis = np.full(int(symbols[-1]) + 2, len(symbols), dtype=np.int64)  # the last stands for all others
            axis[symbols] = np.arange(len(symbols))
            self._axes.append(axis)
        self._cells = np.full([int(axis[-1]) + 1 for axis in self._axes], UNKNOWN_ROW, dtype=np.int32)
        index = tuple(axis[column_R] for axis, column_R in zip(self._axes, rows_RA.T, strict=True))
        self._cells[index] = list(table.values())
        self._outputs = np.unique(list(table.values()))

    def find(self, columns: Sequence[Column], name_CN: Ints, written_N: Ints, context_N: Ints) -> list[Column] | None:
        """The cheapest pointers whose symbols the table maps to what is written, on every row that it has."""
        if len(np.unique(written_N)) < 2 or not np.isin(written_N, self._outputs).mean() > MOSTLY_KNOWN:
            return None
        some = np.linspace(0, len(written_N) - 1, min(len(written_N), RANKED_KNOWN)).astype(np.intp)
        first = some[:: max(1, len(some) // FIRST_KNOWN)]
        shape = [[-1 if i == a else 1 for i in range(self.arity)] for a in range(self.arity)]
        found = self._look_up([name_CN[:, first].reshape(*shape[a], len(first)) for a in range(self.arity)])
        left_TA = np.argwhere(((found == written_N[first]) | (found == UNKNOWN_ROW)).all(-1))
        found = self._look_up([name_CN[left_TA[:, a]][:, some] for a in range(self.arity)])
        fits = ((found == written_N[some]) | (found == UNKNOWN_ROW)).all(-1)
        fits &= (found != UNKNOWN_ROW).mean(-1) > MOSTLY_KNOWN
        tuples = [t for t in left_TA[fits].tolist() if len(set(t)) == self.arity]
        for chosen in sorted(tuples, key=lambda t: sum(columns[c].cost for c in t))[:MAX_TUPLES]:
            output_N = self._look_up([name_CN[c] for c in chosen])
            known_N = output_N != UNKNOWN_ROW
            if known_N.mean() <= MOSTLY_KNOWN or (output_N[known_N] != written_N[known_N]).any():
                continue
            new_NA = name_CN[chosen][:, ~known_N].T
            if not len(new_NA) or repeats(row_numbers(new_NA), context_N[~known_N]):
                return [columns[c] for c in chosen]
        return None

    def _look_up(self, arguments: Sequence[Ints]) -> Ints:
        flat: NDArray[np.int64] | int = 0
        for axis, symbols in zip(self._axes, arguments, strict=True):
            capped = np.where(symbols < 0, len(axis) - 1, np.minimum(symbols, len(axis) - 1))
            flat = flat * int(axis[-1] + 1) + axis[capped]
        return np.asarray(self._cells.ravel()[flat])
