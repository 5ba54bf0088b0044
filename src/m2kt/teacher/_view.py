"""What is known at one step: the samples that reach it, the rules found so far, and the units worth combining.

Legend: N samples, P earlier units, A arguments.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]

MAX_CANDIDATES = 12  # argument candidates that are combined; ranked by causal effect, then nearness
ENOUGH = 20  # samples from which columns that are always equal are taken for copies of each other
DENSE_LIMIT = 4_000_000  # cells of a dense look-up table


@dataclass
class DraftRule:
    """A rule while it is being learnt: argument symbols to counted outputs."""

    arity: int
    table: dict[tuple[int, ...], Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    _dense: Ints | None = None  # (side,) * arity, -1 where unknown; dropped whenever a row is learnt

    def says(self, arguments: tuple[int, ...]) -> int:
        """The output held for ``arguments``, -1 where none is."""
        seen = self.table.get(arguments)
        return seen.most_common(1)[0][0] if seen else -1

    def learn(self, arguments_NA: Ints, outputs_N: Ints) -> None:
        """Adds observed rows."""
        self._dense = None
        for arguments, output in zip(map(tuple, arguments_NA.tolist()), outputs_N.tolist(), strict=True):
            self.table[arguments][output] += 1

    def look_up(self, arguments_NA: Ints) -> Ints:
        """Outputs for many rows of arguments, -1 where unknown."""
        if self._dense is None:
            side = 1 + max(max(row) for row in self.table)
            if side**self.arity > DENSE_LIMIT:
                return np.array([self.says(tuple(r)) for r in arguments_NA.tolist()], dtype=np.int32)
            self._dense = np.full((side + 1,) * self.arity, -1, dtype=np.int32)
            for row in self.table:
                self._dense[row] = self.says(row)
        side = self._dense.shape[0] - 1
        # Symbols beyond the table, and structure (-1), fall on the last index of each axis, which stays unknown.
        inside = np.where((arguments_NA < 0) | (arguments_NA >= side), side, arguments_NA)
        said: Ints = self._dense[tuple(inside.T)]
        return said


@dataclass
class View:
    """What is known at one node: earlier symbols, what was written next, and causal effects of each earlier unit."""

    columns_NP: Ints
    symbol_N: Ints  # symbol written next, -1 where structure was
    text_N: list[str]
    lead_N: list[str]
    effect_P: Floats  # share of interventions at the unit that changed this step; NaN where not tried
    follow_P: Floats  # share after which the step wrote the new symbol
    support: list[frozenset[int]]  # by unit: symbols seen there in any sample of the template

    def at(self, keep: NDArray[np.bool_]) -> View:
        """The same node seen by some of its samples."""
        rows = np.flatnonzero(keep)
        return View(
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

    def slack(self) -> int:
        """Samples that may disagree: a teacher that is right 99.x % of the time slips now and then."""
        return self.n // 200 if self.n >= 200 else int(self.n >= 60)


@dataclass
class Book:
    """All rules found so far, and the argument tuples that each template already uses."""

    rules: list[DraftRule] = field(default_factory=list)
    used: Counter[tuple[int, ...]] = field(default_factory=Counter)  # within the current template


def argument_candidates(view: View, *, constants: bool) -> tuple[list[int], dict[int, float]]:
    """Earlier units worth combining, with the causal effect of each: strongest first, then nearest.

    A symbol and its copies form a class of always-equal columns. The nearest unit stands for its class (pointers
    that stay the same when shapes grow) with the strongest effect in it; which of them the teacher itself reads is
    kept with the attention edges. Few samples cannot show that columns are copies: then only causes may stand in.
    """
    classes: dict[bytes, list[int]] = defaultdict(list)
    fixed: list[int] = []
    for p in range(view.columns_NP.shape[1]):
        column = view.columns_NP[:, p]
        if column[0] < 0:
            continue
        if (column == column[0]).all():
            fixed.append(p)
        else:
            classes[column.tobytes()].append(p)
    effect = np.nan_to_num(view.effect_P, nan=0.0)
    ranked: list[tuple[float, int]] = []
    for members in classes.values():
        strongest = max(float(effect[m]) for m in members)
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
