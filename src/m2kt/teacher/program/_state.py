"""All steps of one state, and which of them a decision gets wrong. Letters: N rows, L labels, A arguments."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m2kt.packet._pointers import Decision, WriteCopy, WriteLiteral, WriteRule
from m2kt.teacher.program._actions import majority, row_numbers
from m2kt.teacher.program._evaluate import Evaluator, Looked
from m2kt.teacher.program._traces import NONE, Ints, Rows, Search, Traces


@dataclass
class StateRows:
    """All steps of one state."""

    traces: Traces
    rows: Rows
    masks: list[str]  # written
    context_N: Ints
    """Number of the last masks before each, by which a state would be split."""
    looked: Looked = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.written_N = self.traces.written(self.rows)
        self.lead_N = self.traces.lead_MU[self.rows.trace_N, self.rows.here_N]
        self.labels = sorted(set(self.masks))
        self.number = {m: i for i, m in enumerate(self.labels)}
        self.label_N = np.array([self.number[m] for m in self.masks], dtype=np.int32)
        self.is_symbol_L = [self._writes_symbol(i) for i in range(len(self.labels))]
        self.all = Evaluator(Search(self.traces, self.rows), self.looked)

    def _writes_symbol(self, label: int) -> bool:
        index = int((self.label_N == label).argmax())
        return bool(self.written_N[index] < self.traces.n_symbols)

    def wrong(self, decision: Decision) -> NDArray[np.intp]:
        """The rows for which a decision writes something else than the teacher."""
        wrong: list[NDArray[np.intp]] = []
        for leaf, rows in self.all.leaves(decision, np.arange(len(self.rows))):
            if not len(rows):
                continue
            match leaf:
                case None:
                    wrong.append(rows)
                case WriteLiteral():
                    if leaf.symbol is None:
                        fits_N = self.label_N[rows] == self.number.get(leaf.text, -1)
                    else:
                        fits_N = (self.written_N[rows] == leaf.symbol) & self._leads(leaf.lead, rows)
                    wrong.append(rows[~fits_N])
                case WriteCopy():
                    name_N = self.all.unit(leaf.source)
                    wrong.append(rows[(name_N[rows] != self.written_N[rows]) | ~self._leads(leaf.lead, rows)])
                case WriteRule():
                    wrong.append(rows[~self._rule_fits(leaf, rows)])
        return np.sort(np.concatenate(wrong)) if wrong else np.empty(0, dtype=np.intp)

    def looks(self, decision: Decision) -> Ints:
        """Where each row looks by a decision, for its first argument; NONE where it writes a literal, or nothing."""
        place_N = np.full(len(self.rows), NONE, dtype=np.int32)
        for leaf, rows in self.all.leaves(decision, np.arange(len(self.rows))):
            if isinstance(leaf, WriteCopy | WriteRule):
                first = leaf.source if isinstance(leaf, WriteCopy) else leaf.sources[0]
                place_N[rows] = self.all.place(first)[rows]
        return place_N

    def _leads(self, lead: str, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Rows whose unit has this leading space."""
        return self.lead_N[rows] == (lead == " ")  # type: ignore[no-any-return]

    def _rule_fits(self, leaf: WriteRule, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        argument_NA = np.stack([self.all.unit(s)[rows] for s in leaf.sources], 1)
        known_N = ((argument_NA >= 0) & (argument_NA < self.traces.n_symbols)).all(1)
        written_N = self.written_N[rows]
        fits_N = known_N & (written_N < self.traces.n_symbols)
        row_N = row_numbers(argument_NA)
        return np.asarray(fits_N & (majority(row_N, written_N)[row_N] == written_N))


@dataclass
class Explained:
    """A decision with the rows that it gets wrong."""

    decision: Decision
    wrong: NDArray[np.intp]


@dataclass
class Effort:
    """Heavy searches that may still be made: a skill that resists everywhere is refused, not searched for ever."""

    left: int = 10**9

    def spend(self) -> bool:
        """Whether there is one left."""
        self.left -= 1
        return self.left >= 0
