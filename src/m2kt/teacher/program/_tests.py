"""Yes-or-no questions about the units so far, over which states branch. Letters: N rows, Q questions, L labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2kt.packet._pointers import Equal, Mask, Order, Question, Unit, Value
from m2kt.probes import MASK
from m2kt.teacher.program._candidates import Column, cheapest_first, distinct
from m2kt.teacher.program._columns import Columns
from m2kt.teacher.program._traces import NONE, Ints, Traces

MAX_SYMBOLS = 40  # that may be asked for by name
MAX_COLUMNS = 600  # candidates that are asked about, cheapest first
MAX_NAMED = 240  # of these, asked about single symbols
MAX_EQUAL = 28  # cheap columns that are compared with all others
MAX_COMPARED = 240
MAX_ORDERED = 14


@dataclass(eq=False, slots=True)
class YesNo:
    """A question with the value that counts as yes."""

    make: Callable[[int], Question]
    index: int
    value: Value
    cost: float
    sort: str

    def ask(self) -> Question:
        """The question itself."""
        return self.make(self.index)


class Questions:
    """All questions over some candidates, with their answers on every row.

    Args:
        name_CN: the unit that each finds.
        place_CN: where each stands.
        n_near: candidates before this one are near.
        about: those that are compared with all others.
    """

    def __init__(
        self,
        traces: Traces,
        columns: list[Column],
        name_CN: Ints,
        place_CN: Ints,
        n_near: int,
        about: Sequence[int] = (),
    ) -> None:
        self.list: list[YesNo] = []
        self._answers: list[NDArray[np.bool_]] = []
        self._seen: dict[bytes, int] = {}
        self.columns, self.cost_C = columns, np.array([column.cost for column in columns])
        self.name_CN, self.place_CN, self.n_near, self.about = name_CN, place_CN, n_near, list(about)
        self.n_symbols, self.structure = traces.n_symbols, traces.structure
        self.is_symbol_CN = (self.name_CN >= 0) & (self.name_CN < self.n_symbols)
        self.class_CN = np.where(self.is_symbol_CN, traces.class_S[self.name_CN * self.is_symbol_CN], NONE)
        self._masks()
        self._symbols()
        self._equal()
        self._order()
        self.answer_QN = np.array(self._answers, dtype=np.float32).reshape(len(self._answers), self.name_CN.shape[1])
        self.cost_Q = np.array([q.cost for q in self.list])

    @classmethod
    def of(cls, columns: Columns, stage: int) -> Questions:
        """Those over the candidates of the first stages."""
        every = columns.upto(stage)
        chosen, name_CN = columns.distinct(stage, MAX_COLUMNS)
        place_CN, n_near = columns.places(stage)[chosen], len(columns.upto(0))
        return cls(columns.search.traces, [every[c] for c in chosen], name_CN, place_CN, n_near)

    def cheapest(self, most: int) -> list[int]:
        """The cheapest questions of each sort."""
        count: Counter[str] = Counter()
        chosen = []
        for q in np.argsort(self.cost_Q, kind="stable").tolist():
            sort = self.list[q].sort
            count[sort] += 1
            if count[sort] <= most:
                chosen.append(q)
        return chosen

    def _add_all(self, is_CN: NDArray[np.bool_], ask: Callable[[Column], Question], value: Value, extra: float) -> None:
        """One question for each candidate whose answer varies."""
        sort = "unit" if ask is _ask_unit else "mask"
        cost_C, columns = self.cost_C[: len(is_CN)] + extra, self.columns
        self._add(lambda c: ask(columns[c]), value, cost_C.tolist(), is_CN, sort)

    def _add(
        self,
        ask: Callable[[int], Question],
        value: Value,
        cost_X: Sequence[float],
        answer_XN: NDArray[np.bool_],
        sort: str,
    ) -> None:
        """Those of some questions whose answer varies; of equal answers the cheapest question."""
        yes_X, bits_XB = answer_XN.sum(1), np.packbits(answer_XN, axis=1)
        for x in np.flatnonzero((yes_X > 0) & (yes_X < answer_XN.shape[1])).tolist():
            key, cost = bits_XB[x].tobytes(), cost_X[x]
            index = self._seen.get(key)
            if index is None:
                self._seen[key] = len(self.list)
                self.list.append(YesNo(ask, x, value, cost, sort))
                self._answers.append(answer_XN[x])
            elif cost < self.list[index].cost:
                self.list[index] = YesNo(ask, x, value, cost, sort)

    def _masks(self) -> None:
        for c in np.unique(self.class_CN[self.is_symbol_CN]).tolist():
            self._add_all(self.class_CN == c, _ask_mask, f"{MASK}{c}", 0.0)
        self._add_all(self.name_CN < 0, _ask_mask, None, 0.1)
        for number in np.unique(self.name_CN[self.name_CN >= self.n_symbols]).tolist():
            self._add_all(self.name_CN == number, _ask_mask, self.structure[number - self.n_symbols], 0.2)

    def _symbols(self) -> None:
        for number in np.unique(self.name_CN[self.is_symbol_CN])[:MAX_SYMBOLS].tolist():
            self._add_all(self.name_CN[:MAX_NAMED] == number, _ask_unit, number, 1.0)

    def _equal(self) -> None:
        columns, cost_C = self.columns, self.cost_C
        holding = np.flatnonzero(self.is_symbol_CN.mean(1) > 0.3)
        chosen = np.array(distinct(holding, cost_C, self.name_CN, MAX_COMPARED), dtype=np.intp)
        for i, a in enumerate([*self.about, *chosen[:MAX_EQUAL].tolist()]):
            others = chosen[chosen != a] if i < len(self.about) else chosen[i - len(self.about) + 1 :]
            equal_CN = (self.name_CN[others] == self.name_CN[a]) & (self.name_CN[a] >= 0)
            compared = [columns[b] for b in others.tolist()]
            costs = (cost_C[a] + cost_C[others] + 1.5).tolist()
            self._add(_equal_to(columns[a], compared), True, costs, equal_CN, "equal")

    def _order(self) -> None:
        ranked = cheapest_first(np.arange(len(self.columns)), self.cost_C)[: MAX_ORDERED * 3]
        near = [c for c in ranked if self.columns[c].index < self.n_near]
        for c in near[:MAX_ORDERED]:
            self._ordered(c, ranked)
        for c in self.about:
            self._ordered(c, [other for other in range(len(self.columns)) if other != c])

    def _ordered(self, c: int, ranked: list[int]) -> None:
        """Where one stands from others."""
        others, place_CN = [self.columns[c] for c in ranked], self.place_CN[ranked]
        if ranked:
            known_CN, sign_CN = (self.place_CN[c] >= 0) & (place_CN >= 0), np.sign(self.place_CN[c] - place_CN)
            costs = (self.cost_C[c] + self.cost_C[ranked] + 0.5).tolist()
            for value in (-1, 0, 1):
                self._add(_order_to(self.columns[c], others), value, costs, known_CN & (sign_CN == value), "order")


def _ask_mask(column: Column) -> Question:
    return Mask(at=column.pointer)


def _ask_unit(column: Column) -> Question:
    return Unit(at=column.pointer)


def _equal_to(a: Column, others: Sequence[Column]) -> Callable[[int], Question]:
    return lambda x: Equal(at=a.pointer, as_=others[x].pointer)


def _order_to(a: Column, others: Sequence[Column]) -> Callable[[int], Question]:
    return lambda x: Order(at=a.pointer, as_=others[x].pointer)
