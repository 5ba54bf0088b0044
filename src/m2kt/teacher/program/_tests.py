"""Yes-or-no questions about the units so far, over which states branch. Letters: N rows, Q questions, L labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2kt.packet._pointers import Equal, Mask, Order, Question, Unit, Value
from m2kt.probes import MASK
from m2kt.teacher.program._columns import Column
from m2kt.teacher.program._traces import Search

MAX_VALUES = 16  # distinct symbols of a column up to which each may be asked for
MAX_EQUAL = 28  # cheap columns that are compared with all others
MAX_COMPARED = 400
MAX_ORDERED = 14


@dataclass(eq=False)
class YesNo:
    """A question with the value that counts as yes."""

    ask: Callable[[], Question]
    value: Value
    cost: float


class Questions:
    """All questions over some columns, with their answers on every row."""

    def __init__(self, search: Search, columns: Sequence[Column]) -> None:
        self.list: list[YesNo] = []
        self._answers: list[NDArray[np.bool_]] = []
        self._seen: dict[bytes, int] = {}
        traces = search.traces
        self.class_S = traces.class_S
        names = [traces.at(search.rows, c.place_N) for c in columns]
        for column, name_N in zip(columns, names, strict=True):
            self._about(column, name_N, traces.n_symbols, traces.structure)
        self._equal(columns, names, traces.n_symbols)
        self._order(columns)
        self.answer_QN = np.array(self._answers, dtype=np.float32).reshape(len(self._answers), len(search.rows))
        self.cost_Q = np.array([q.cost for q in self.list])

    def _add(self, ask: Callable[[], Question], value: Value, cost: float, answer_N: NDArray[np.bool_]) -> None:
        n = int(answer_N.sum())
        if n == 0 or n == len(answer_N):
            return
        key = answer_N.tobytes()
        index = self._seen.get(key)
        if index is None:
            self._seen[key] = len(self.list)
            self.list.append(YesNo(ask, value, cost))
            self._answers.append(answer_N)
        elif cost < self.list[index].cost:
            self.list[index] = YesNo(ask, value, cost)

    def _about(self, column: Column, name_N: NDArray[np.int32], n_symbols: int, structure: list[str]) -> None:
        def ask_mask() -> Question:
            return Mask(at=column.pointer)

        def ask_unit() -> Question:
            return Unit(at=column.pointer)

        numbers = np.unique(name_N).tolist()
        symbols = [n for n in numbers if 0 <= n < n_symbols]
        if symbols:
            is_N = (name_N >= 0) & (name_N < n_symbols)
            class_N = np.where(is_N, self.class_S[np.where(is_N, name_N, 0)], -1)
            for c in np.unique(class_N[is_N]).tolist():
                self._add(ask_mask, f"{MASK}{c}", column.cost, class_N == c)
        for number in numbers:
            if number < 0:
                self._add(ask_mask, None, column.cost + 0.1, name_N < 0)
            elif number >= n_symbols:
                self._add(ask_mask, structure[number - n_symbols], column.cost + 0.2, name_N == number)
        if len(symbols) <= MAX_VALUES:
            for number in symbols:
                self._add(ask_unit, number, column.cost + 1.0, name_N == number)

    def _equal(self, columns: Sequence[Column], names: list[NDArray[np.int32]], n_symbols: int) -> None:
        ranked = sorted(range(len(columns)), key=lambda c: columns[c].cost)
        holding = [c for c in ranked if ((names[c] >= 0) & (names[c] < n_symbols)).mean() > 0.3]
        unique: dict[bytes, int] = {}
        for c in holding:
            unique.setdefault(names[c].tobytes(), c)
        chosen = list(unique.values())[:MAX_COMPARED]
        for i, a in enumerate(chosen[:MAX_EQUAL]):
            for b in chosen[i + 1 :]:
                answer_N = (names[a] == names[b]) & (names[a] >= 0)
                cost = columns[a].cost + columns[b].cost + 1.5

                def ask(a: int = a, b: int = b) -> Question:
                    return Equal(at=columns[a].pointer, as_=columns[b].pointer)

                self._add(ask, True, cost, answer_N)

    def _order(self, columns: Sequence[Column]) -> None:
        ranked = sorted(columns, key=lambda c: c.cost)[: MAX_ORDERED * 3]
        backs = [c for c in ranked if c.stage == 0][:MAX_ORDERED]
        for a in backs:
            for b in ranked[: 4 * MAX_ORDERED]:
                known_N = (a.place_N >= 0) & (b.place_N >= 0)
                sign_N = np.sign(a.place_N - b.place_N)
                for value in (-1, 0, 1):

                    def ask(a: Column = a, b: Column = b) -> Question:
                        return Order(at=a.pointer, as_=b.pointer)

                    self._add(ask, value, a.cost + b.cost + 0.5, known_N & (sign_N == value))
