"""Yes-or-no questions about the units so far, over which states branch. Letters: N rows, Q questions, L labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2kt.packet._pointers import Equal, Mask, Order, Question, Unit, Value
from m2kt.probes import MASK
from m2kt.teacher.program._columns import Column, Columns
from m2kt.teacher.program._traces import NONE

MAX_SYMBOLS = 40  # that may be asked for by name
MAX_COLUMNS = 600  # candidates that are asked about, cheapest first
MAX_NAMED = 240  # of these, asked about single symbols
MAX_EQUAL = 28  # cheap columns that are compared with all others
MAX_COMPARED = 240
MAX_ORDERED = 14


@dataclass(eq=False)
class YesNo:
    """A question with the value that counts as yes."""

    ask: Callable[[], Question]
    value: Value
    cost: float
    sort: str


class Questions:
    """All questions over the candidates of the first stages, with their answers on every row."""

    def __init__(self, columns: Columns, stage: int) -> None:
        self.list: list[YesNo] = []
        self._answers: list[NDArray[np.bool_]] = []
        self._seen: dict[bytes, int] = {}
        every, name_CN = columns.upto(stage), columns.names(stage)
        unique: dict[bytes, int] = {}
        for c in sorted(range(len(every)), key=lambda c: every[c].cost):
            unique.setdefault(name_CN[c].tobytes(), c)
            if len(unique) >= MAX_COLUMNS:
                break
        chosen = list(unique.values())
        self.columns, self.name_CN = [every[c] for c in chosen], name_CN[chosen]
        traces = columns.search.traces
        self.n_symbols, self.structure = traces.n_symbols, traces.structure
        self.is_symbol_CN = (self.name_CN >= 0) & (self.name_CN < self.n_symbols)
        self.class_CN = np.where(self.is_symbol_CN, traces.class_S[self.name_CN * self.is_symbol_CN], NONE)
        self._masks()
        self._symbols()
        self._equal()
        self._order()
        self.answer_QN = np.array(self._answers, dtype=np.float32).reshape(len(self._answers), self.name_CN.shape[1])
        self.cost_Q = np.array([q.cost for q in self.list])

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

    def _add_all(
        self, is_CN: NDArray[np.bool_], ask: Callable[[Column], Callable[[], Question]], value: Value, extra: float
    ) -> None:
        """One question for each candidate whose answer varies."""
        n_C = is_CN.sum(1)
        for c in np.flatnonzero((n_C > 0) & (n_C < is_CN.shape[1])).tolist():
            sort = "unit" if ask is _ask_unit else "mask"
            self._add(ask(self.columns[c]), value, self.columns[c].cost + extra, is_CN[c], sort)

    def _add(
        self, ask: Callable[[], Question], value: Value, cost: float, answer_N: NDArray[np.bool_], sort: str
    ) -> None:
        key = np.packbits(answer_N).tobytes()
        index = self._seen.get(key)
        if index is None:
            self._seen[key] = len(self.list)
            self.list.append(YesNo(ask, value, cost, sort))
            self._answers.append(answer_N)
        elif cost < self.list[index].cost:
            self.list[index] = YesNo(ask, value, cost, sort)

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
        columns = self.columns
        ranked = sorted(range(len(columns)), key=lambda c: columns[c].cost)
        holding_C = self.is_symbol_CN.mean(1) > 0.3
        unique: dict[bytes, int] = {}
        for c in ranked:
            if holding_C[c]:
                unique.setdefault(self.name_CN[c].tobytes(), c)
        chosen = np.array(list(unique.values())[:MAX_COMPARED], dtype=np.intp)
        for i, a in enumerate(chosen[:MAX_EQUAL].tolist()):
            others = chosen[i + 1 :]
            equal_CN = (self.name_CN[others] == self.name_CN[a]) & (self.name_CN[a] >= 0)
            n_C = equal_CN.sum(1)
            for j in np.flatnonzero((n_C > 0) & (n_C < equal_CN.shape[1])).tolist():
                b = int(others[j])
                cost = columns[a].cost + columns[b].cost + 1.5
                self._add(_ask_equal(columns[a], columns[b]), True, cost, equal_CN[j], "equal")

    def _order(self) -> None:
        ranked = sorted(self.columns, key=lambda c: c.cost)[: MAX_ORDERED * 3]
        for a in [c for c in ranked if c.stage == 0][:MAX_ORDERED]:
            for b in ranked:
                known_N = (a.place_N >= 0) & (b.place_N >= 0)
                sign_N = np.sign(a.place_N - b.place_N)
                for value in (-1, 0, 1):
                    answer_N = known_N & (sign_N == value)
                    if answer_N.any() and not answer_N.all():
                        self._add(_ask_order(a, b), value, a.cost + b.cost + 0.5, answer_N, "order")


def _ask_mask(column: Column) -> Callable[[], Question]:
    return lambda: Mask(at=column.pointer)


def _ask_unit(column: Column) -> Callable[[], Question]:
    return lambda: Unit(at=column.pointer)


def _ask_equal(a: Column, b: Column) -> Callable[[], Question]:
    return lambda: Equal(at=a.pointer, as_=b.pointer)


def _ask_order(a: Column, b: Column) -> Callable[[], Question]:
    return lambda: Order(at=a.pointer, as_=b.pointer)
