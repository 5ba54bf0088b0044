"""The data at one node of a trie: its samples, effects of earlier units, and candidate arguments.

Letters: N samples, U earlier units, A arguments, R distinct rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]

MAX_CANDIDATES = 12  # argument candidates that are combined, by causal effect, then nearness
MAX_CONSTANTS = 4  # nearest constant units that are candidates too
MIN_SAMPLES_FOR_ERRORS = 40  # with fewer samples an explanation must fit all of them
CANDIDATES_FOR_EXCEPTIONS = 8  # units that may tell an exception from an error
MIN_SAMPLES_FOR_COPIES = 20  # from here on, columns that are always equal count as copies of each other
MAX_COUNTED_KEYS = 1 << 12  # more are sorted
NOISE_RATE = 0.01  # assumed error rate of a good teacher


@dataclass
class NodeData:
    """Samples of one node: symbols of earlier units, what is written next, and causal effects."""

    columns_NU: Ints
    symbol_N: Ints  # symbol written next, -1 for structure
    text_N: list[str]
    leading_space_N: list[str]
    effect_U: Floats  # share of interventions on the unit that changed this step; NaN if none was made
    copy_rate_U: Floats  # share of them after which the step wrote the new symbol
    support: list[frozenset[int]]  # by unit: symbols that any sample of the template has there

    def subset(self, keep_N: NDArray[np.bool_]) -> NodeData:
        """The same node with some of its samples."""
        rows = np.flatnonzero(keep_N)
        return replace(
            self,
            columns_NU=self.columns_NU[rows],
            symbol_N=self.symbol_N[rows],
            text_N=[self.text_N[i] for i in rows],
            leading_space_N=[self.leading_space_N[i] for i in rows],
        )

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.text_N)

    def without_effects(self) -> NodeData:
        """The same node as if no intervention had been made."""
        unknown_U = np.full_like(self.effect_U, np.nan)
        return replace(self, effect_U=unknown_U, copy_rate_U=unknown_U)

    def error_budget(self) -> int:
        """Samples that may contradict an explanation, unless they are ``systematic``."""
        return error_budget(self.n)

    def systematic(self, wrong_N: NDArray[np.bool_]) -> bool:
        """Whether contradicting samples are an exception and not errors: earlier symbols predict half of them.

        Errors are isolated. Samples with the same few earlier symbols that mostly contradict, or that all contradict
        with the same text at least twice, indicate a larger rule.
        """
        if wrong_N.sum() < 2:
            return False
        candidates, _ = argument_candidates(self, constants=False)
        text_N = np.unique(self.text_N, return_inverse=True)[1]
        for count in (1, 2, 3):
            for units in combinations(candidates[:CANDIDATES_FOR_EXCEPTIONS], count):
                row_N = row_numbers(self.columns_NU[:, list(units)])
                size_R = np.bincount(row_N)
                wrong_R = np.bincount(row_N[wrong_N], minlength=len(size_R))
                mostly_wrong_R = (wrong_R >= 3) & (2 * wrong_R >= size_R)
                same_text = Counter(zip(row_N[wrong_N].tolist(), text_N[wrong_N].tolist(), strict=True))
                predicted = int(wrong_R[mostly_wrong_R].sum())
                predicted += sum(
                    n for (row, _), n in same_text.items() if n >= 2 and n == size_R[row] and not mostly_wrong_R[row]
                )
                if 2 * predicted >= wrong_N.sum():
                    return True
        return False


def error_budget(n: int) -> int:
    """Errors that a good teacher may make in ``n`` answers: the mean plus two standard deviations."""
    return int(NOISE_RATE * n + 2 * (NOISE_RATE * n) ** 0.5) if n >= MIN_SAMPLES_FOR_ERRORS else 0


def row_numbers(columns_NA: Ints) -> NDArray[np.int64]:
    """A number for each row: equal rows have equal numbers, numbers start at 0 without gaps."""
    key_N, n_keys = np.zeros(len(columns_NA), dtype=np.int64), 1
    for column_N in columns_NA.T:
        low = int(column_N.min())
        n_values = int(column_N.max()) - low + 1
        key_N = key_N * n_values + column_N - low
        if n_keys * n_values <= MAX_COUNTED_KEYS:
            present = np.zeros(n_keys * n_values, dtype=np.int64)
            present[key_N] = 1
            key_N = (present.cumsum() - 1)[key_N]
        else:
            _, key_N = np.unique(key_N, return_inverse=True)
        n_keys = int(key_N.max()) + 1
    return key_N


def argument_candidates(data: NodeData, *, constants: bool) -> tuple[list[int], dict[int, float]]:
    """Candidate argument units, and the causal effect of each: strongest first, then nearest.

    Columns that are always equal (a symbol and its copies) form a class. Its nearest unit represents it, so that
    pointers stay the same in longer templates, with the largest effect in the class. With few samples equal columns
    may not be copies: then only units with a similar effect can represent the class.

    Args:
        constants: the nearest constant units are candidates too. They cannot decide this step, but may be arguments
            elsewhere (the carry of a first column).
    """
    classes: dict[bytes, list[int]] = defaultdict(list)
    constant: list[int] = []
    column_UN = np.ascontiguousarray(data.columns_NU.T)
    constant_U = (column_UN == column_UN[:, :1]).all(axis=1)
    for u in np.flatnonzero(column_UN[:, 0] >= 0).tolist():
        if constant_U[u]:
            constant.append(u)
        else:
            classes[column_UN[u].tobytes()].append(u)
    effect = np.nan_to_num(data.effect_U, nan=0.0).tolist()
    ranked: list[tuple[float, int]] = []
    for units in classes.values():
        largest = max(effect[u] for u in units)
        eligible = [u for u in units if data.n >= MIN_SAMPLES_FOR_COPIES or effect[u] >= 0.5 * largest]
        ranked.append((largest, max(eligible)))
    ranked.sort(reverse=True)
    # If causes are known, other units need not be combined.
    causes = [(e, u) for e, u in ranked if e > 0]
    effect_of = {u: e for e, u in (causes or ranked)[:MAX_CANDIDATES]}
    if constants:
        effect_of |= dict.fromkeys(constant[-MAX_CONSTANTS:], 0.0)
    return list(effect_of), effect_of
