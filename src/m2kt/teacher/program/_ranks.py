"""Ranks: the unit of a region that comes first in an order, learnt from what was chosen and what stood beside it.

Letters: N rows, P units of regions, S symbols.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import lgamma, log

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import Answer, Here, Kind, Ranking, Seek
from m2kt.teacher.program._actions import CHANCE_BITS
from m2kt.teacher.program._candidates import Make
from m2kt.teacher.program._columns import Columns
from m2kt.teacher.program._evaluate import Evaluator
from m2kt.teacher.program._traces import Found, Ints

OFFSETS = (0, 1, -1, 2, -2, 3, -3, 4, -4)  # units from what is ranked to what is compared
LEAST_BESIDE = 0.5  # other symbols that must stand in a region, on average
MAX_RANKED = 8  # orders that are tried
Bools = NDArray[np.bool_]


class RankSearch:
    """Searches by rank that find what is written on some rows: the first of an order.

    Args:
        columns: the candidates of the rows.
        written_N: the unit that each row writes.
    """

    def __init__(self, columns: Columns, written_N: Ints) -> None:
        self.columns, self.search, self.written_N = columns, columns.search, written_N
        self.evaluator = Evaluator(columns.search, columns.looked)
        self.n_tried = 0

    def find(self) -> Iterator[Seek]:
        """Searches from the marks on, those first that compare the units themselves."""
        for offset in OFFSETS:
            for make, until in self._regions():
                seen: set[bytes] = set()
                for kind in self.columns.kinds.symbols:
                    found = self._region(make, until, kind)
                    if found is None or found.place_P.tobytes() in seen:
                        continue
                    seen.add(found.place_P.tobytes())
                    self.n_tried += 1
                    before = self._order(found, offset)
                    if before is not None:
                        rank = Ranking(before=before, offset=offset, until=until())
                        yield Seek(of=make(), step=1, kind=kind, rank=rank)

    def _regions(self) -> Iterator[tuple[Make, Make]]:
        """From a mark to the question's end, to here, or to the next mark."""
        answer_N = self.search.traces.prompt_M[self.search.rows.trace_N]
        marks = [mark for mark in self.columns.marks if mark[0] not in (Here, Answer)]
        for make, _, place_N in marks:
            yield make, Answer if (place_N < answer_N).all() else Here
        for make, _, place_N in marks:
            for other, _, other_N in marks:
                if (other_N > place_N).all():
                    yield make, other

    def _region(self, make: Make, until: Make, kind: Kind) -> Found | None:
        """The units of a kind in a region, if what is written is always among them, and not alone."""
        found = self.evaluator.between(Seek(of=make(), step=1, kind=kind), until())
        name_P = self.search.traces.name_MU[self.search.rows.trace_N[found.row_P], found.place_P]
        hit_P = name_P == self.written_N[found.row_P]
        there_N = np.bincount(found.row_P[hit_P], minlength=len(self.written_N)) > 0
        return found if there_N.all() and (~hit_P).sum() >= LEAST_BESIDE * len(there_N) else None

    def _order(self, found: Found, offset: int) -> tuple[tuple[int, int], ...] | None:
        """The order in which what is chosen comes first; None where there is none, or chance would have one."""
        traces, n = self.search.traces, self.search.traces.n_symbols
        rows = self.search.rows.take(found.row_P)
        name_P = traces.name_MU[rows.trace_N, found.place_P]
        rank_P = traces.at(rows, found.place_P.astype(np.int32) + offset)
        if not ((rank_P >= 0) & (rank_P < n)).all():
            return None
        there_NS = np.zeros((len(self.written_N), n), dtype=bool)
        there_NS[found.row_P, rank_P] = True
        chosen_NS = np.zeros_like(there_NS)
        hit_P = name_P == self.written_N[found.row_P]
        chosen_NS[found.row_P[hit_P], rank_P[hit_P]] = True
        first_SS, n_sure = np.zeros((n, n), dtype=bool), -1
        while True:  # of several units like the one written those are not meant that others come before
            ahead_NS = there_NS.astype(np.float32) @ first_SS.astype(np.float32) > 0
            left_NS = chosen_NS & ~ahead_NS
            if not left_NS.any(1).all():
                return None
            sure_N = left_NS.sum(1) == 1
            if sure_N.sum() == n_sure:
                break
            n_sure = int(sure_N.sum())
            beside_NS = there_NS & ~left_NS & sure_N[:, None]
            n_S, o_S = np.nonzero(beside_NS)
            first_SS[left_NS.argmax(1)[n_S], o_S] = True
            first_SS = closure(first_SS)
            if first_SS.diagonal().any():
                return None
        order_bits = lgamma(int((first_SS.any(0) | first_SS.any(1)).sum()) + 1) / log(2)
        if float(np.log2(1 + beside_NS.sum(1)).sum()) < order_bits + CHANCE_BITS + np.log2(max(1, self.n_tried)):
            return None
        return tuple((a, b) for a, b in np.argwhere(first_SS).tolist())


def closure(first_SS: Bools) -> Bools:
    """Pairs that follow from pairs."""
    while True:
        wider_SS = first_SS | (first_SS.astype(np.float32) @ first_SS.astype(np.float32) > 0)
        if (wider_SS == first_SS).all():
            return first_SS
        first_SS = wider_SS
