"""What is known at one step: the samples that reach it, the rules found so far, and the units worth combining.

Legend: N samples, P earlier units, A arguments.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]

MAX_CANDIDATES = 12  # argument candidates that are combined; ranked by causal effect, then nearness
ENOUGH_FOR_SLIPS = 40  # fewer samples must be explained without exception
EXCEPTIONS_FROM = 8  # units among which the reason of an exception is looked for
ENOUGH = 20  # samples from which columns that are always equal are taken for copies of each other
TABLE = 1 << 12  # keys that are counted in a table; more are sorted
SLIPS = 0.01  # a teacher that is right 99 % of the time is worth listening to


@dataclass
class DraftRule:
    """A rule while it is being learnt: argument symbols to counted outputs."""

    arity: int
    table: dict[tuple[int, ...], Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    # symbol to index by axis, cells, which symbols are in any; dropped when a row is learnt
    _dense: tuple[list[NDArray[np.int64]], Ints, NDArray[np.bool_]] | None = None
    _shared: bool = False  # its table is a copy's, too

    def says(self, arguments: tuple[int, ...]) -> int:
        """The output held for ``arguments``, -1 where none is."""
        seen = self.table.get(arguments)
        return max(seen, key=seen.__getitem__) if seen else -1

    def learn(self, arguments_NA: Ints, outputs_N: Ints) -> None:
        """Adds observed rows."""
        self._dense = None
        if self._shared:
            self.table = defaultdict(Counter, {row: seen.copy() for row, seen in self.table.items()})
            self._shared = False
        for arguments, output in zip(map(tuple, arguments_NA.tolist()), outputs_N.tolist(), strict=True):
            self.table[arguments][output] += 1

    def copy(self) -> DraftRule:
        """One that may learn apart from this one: whichever learns first takes its own table."""
        self._shared = True
        return DraftRule(self.arity, self.table, self._dense, True)

    def look_up(self, arguments: Sequence[Ints]) -> Ints:
        """Outputs for one array an argument, -1 where unknown. The arrays broadcast against each other."""
        axes, cells, _ = self._laid_out()
        # One flat index instead of one an axis: what broadcasts is added up while it is still small.
        flat: NDArray[np.int64] | int = 0
        for axis, a in zip(axes, arguments, strict=True):
            flat = flat * int(axis[-1] + 1) + axis[np.minimum(a, len(axis) - 1)]
        return cells.ravel()[flat]

    def writes(self, symbol_N: Ints) -> NDArray[np.bool_]:
        """Which of some symbols any row writes."""
        written_S = self._laid_out()[2]
        return written_S[np.minimum(symbol_N, len(written_S) - 1)]

    def _laid_out(self) -> tuple[list[NDArray[np.int64]], Ints, NDArray[np.bool_]]:
        if self._dense is None:
            self._dense = self._lay_out()
        return self._dense

    def _lay_out(self) -> tuple[list[NDArray[np.int64]], Ints, NDArray[np.bool_]]:
        """Symbols that an argument never was, and structure (-1), fall on the last index, which stays unknown."""
        rows_RA = np.array(list(self.table), dtype=np.int32)
        axes = []
        for column in rows_RA.T:
            seen = np.unique(column)
            axis = np.full(int(seen[-1]) + 2, len(seen), dtype=np.int64)
            axis[seen] = np.arange(len(seen))
            axes.append(axis)
        cells = np.full([int(axis[-1]) + 1 for axis in axes], -1, dtype=np.int32)
        where = tuple(axis[column] for axis, column in zip(axes, rows_RA.T, strict=True))
        cells[where] = said_R = [self.says(row) for row in self.table]
        written_S = np.zeros(max(said_R) + 2, dtype=bool)  # the last: structure, and all symbols behind
        written_S[said_R] = True
        return axes, cells, written_S


@dataclass
class NodeData:
    """What is known at one node: earlier symbols, what was written next, and causal effects of each earlier unit."""

    columns_NP: Ints
    symbol_N: Ints  # symbol written next, -1 where structure was
    text_N: list[str]
    lead_N: list[str]
    effect_P: Floats  # share of interventions at the unit that changed this step; NaN where not tried
    follow_P: Floats  # share after which the step wrote the new symbol
    support: list[frozenset[int]]  # by unit: symbols seen there in any sample of the template

    def at(self, keep: NDArray[np.bool_]) -> NodeData:
        """The same node seen by some of its samples."""
        rows = np.flatnonzero(keep)
        return NodeData(
            self.columns_NP[rows],
            self.symbol_N[rows],
            [self.text_N[i] for i in rows],
            [self.lead_N[i] for i in rows],
            self.effect_P,
            self.follow_P,
            self.support,
        )

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.text_N)

    def blind(self) -> NodeData:
        """The same node as if nothing had been intervened on."""
        unknown_P = np.full_like(self.effect_P, np.nan)
        return replace(self, effect_P=unknown_P, follow_P=unknown_P)

    def slack(self) -> int:
        """Samples that may disagree with an explanation, if nothing explains why they do (see ``systematic``)."""
        return slips(self.n)

    def systematic(self, wrong_N: NDArray[np.bool_]) -> bool:
        """Whether what disagrees is an exception and no slip: earlier symbols tell it apart, more than once.

        A slip comes alone. Where many of the samples with the same few symbols disagree, or two and no other, in the
        same way, a larger rule is at work.
        """
        if wrong_N.sum() < 2:
            return False
        candidates, _ = argument_candidates(self, constants=False)
        text_N = np.unique(self.text_N, return_inverse=True)[1]
        for count in (1, 2, 3):
            for columns in combinations(candidates[:EXCEPTIONS_FROM], count):
                row_N = row_numbers(self.columns_NP[:, list(columns)])
                size_R = np.bincount(row_N)
                wrong_R = np.bincount(row_N[wrong_N], minlength=len(size_R))
                many_R = (wrong_R >= 3) & (2 * wrong_R >= size_R)
                alike = Counter(zip(row_N[wrong_N].tolist(), text_N[wrong_N].tolist(), strict=True))
                told = int(wrong_R[many_R].sum())
                told += sum(
                    c for (row, _), c in alike.items() if c >= 2 and c == size_R[row] and not many_R[row]
                )
                if 2 * told >= wrong_N.sum():
                    return True
        return False


def slips(n: int) -> int:
    """How many of ``n`` answers a good teacher may get wrong by chance: two deviations above the mean."""
    return int(SLIPS * n + 2 * (SLIPS * n) ** 0.5) if n >= ENOUGH_FOR_SLIPS else 0


def row_numbers(columns_NA: Ints) -> NDArray[np.int64]:
    """Numbers the distinct rows: equal rows, equal numbers, from 0 without gaps."""
    key_N, n_keys = np.zeros(len(columns_NA), dtype=np.int64), 1
    for column in columns_NA.T:
        low = int(column.min())
        n_values = int(column.max()) - low + 1
        key_N = key_N * n_values + column - low
        if n_keys * n_values <= TABLE:
            there = np.zeros(n_keys * n_values, dtype=np.int64)
            there[key_N] = 1
            key_N = (there.cumsum() - 1)[key_N]
        else:
            _, key_N = np.unique(key_N, return_inverse=True)
        n_keys = int(key_N.max()) + 1
    return key_N


@dataclass
class RuleSet:
    """All rules found so far, and the argument tuples that each template already uses."""

    rules: list[DraftRule] = field(default_factory=list)
    used: Counter[tuple[int, ...]] = field(default_factory=Counter)  # within the current template

    def copy(self) -> RuleSet:
        """One that may be learnt from apart from this one."""
        return RuleSet([rule.copy() for rule in self.rules], self.used.copy())


def argument_candidates(view: NodeData, *, constants: bool) -> tuple[list[int], dict[int, float]]:
    """Earlier units worth combining, with the causal effect of each: strongest first, then nearest.

    A symbol and its copies form a class of always-equal columns. The nearest unit stands for its class (pointers
    that stay the same when shapes grow) with the strongest effect in it; which of them the teacher itself reads is
    kept with the attention edges. Few samples cannot show that columns are copies: then only causes may stand in.
    """
    classes: dict[bytes, list[int]] = defaultdict(list)
    fixed: list[int] = []
    column_PN = np.ascontiguousarray(view.columns_NP.T)
    constant_P = (column_PN == column_PN[:, :1]).all(axis=1)
    for p in np.flatnonzero(column_PN[:, 0] >= 0).tolist():
        if constant_P[p]:
            fixed.append(p)
        else:
            classes[column_PN[p].tobytes()].append(p)
    effect = np.nan_to_num(view.effect_P, nan=0.0).tolist()
    ranked: list[tuple[float, int]] = []
    for members in classes.values():
        strongest = max(effect[m] for m in members)
        eligible = [m for m in members if view.n >= ENOUGH or effect[m] >= 0.5 * strongest]
        ranked.append((strongest, max(eligible)))
    ranked.sort(reverse=True)
    # Where causes are known, the rest need not be combined.
    causes = [(e, p) for e, p in ranked if e > 0]
    effect_of = {p: e for e, p in (causes or ranked)[:MAX_CANDIDATES]}
    # A column that never varies here cannot be a cause here, but may be an argument elsewhere (a first carry).
    if constants:
        effect_of |= dict.fromkeys(fixed[-4:], 0.0)
    return list(effect_of), effect_of
