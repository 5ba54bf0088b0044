"""Pointers, questions and decisions over many rows at once: the same meaning as the machine's, in arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import Answer, Back, Count, Here, It, Move, Pointer, Ranking, Seek, Start, Where, plain
from m2kt.packet._pointers import Decision, Equal, Leaf, Mask, Order, Question, Relation, Tally, Test
from m2kt.probes import MASK
from m2kt.teacher.program._traces import NONE, Found, Ints, Search

Looked = dict[str | None, list[Ints]]
PAIRS = 20_000  # of a row and a unit, that conditions are asked about at once


class Evaluator:
    """Evaluates over fixed rows, each pointer once. A relation that has no row for a unit does not hold of it.

    Args:
        it_N: the unit that a search asks about.
    """

    def __init__(self, search: Search, looked: Looked | None = None, it_N: Ints | None = None) -> None:
        self.search, self.looked, self.it_N = search, looked or {}, it_N
        self._places: dict[Any, Ints] = {}

    def place(self, pointer: Pointer) -> Ints:
        """Where a pointer stands on each row; NONE where there is no such place."""
        key = pointer.model_dump_json()
        if key not in self._places:
            self._places[key] = self._place(pointer)
        return self._places[key]

    def _place(self, pointer: Pointer) -> Ints:
        rows, search = self.search.rows, self.search
        match pointer:
            case Start():
                return np.zeros_like(rows.here_N)
            case Answer():
                return search.traces.prompt_M[rows.trace_N]
            case Here():
                return rows.here_N
            case It():
                return np.full_like(rows.here_N, NONE) if self.it_N is None else self.it_N
            case Back(state=state, argument=argument):
                arguments = self.looked.get(state, [])
                return arguments[argument] if argument < len(arguments) else np.full_like(rows.here_N, NONE)
            case Move(of=of, by=by):
                return search.move(self.place(of), by)
            case Seek():
                if pointer.rank is not None:
                    return self._ranked(pointer, pointer.rank)
                if not pointer.same and not pointer.where:
                    return search.seek(self.place(pointer.of), pointer.step, pointer.kind, self.count(pointer.nth))
                found = self.fitting(pointer)
                return search.nearest(found, self.place(pointer.of), pointer.step, self.count(pointer.nth))

    def between(self, seek: Seek, until: Pointer) -> Found:
        """All units that a search may stop at up to a place, in the order of the search."""
        found, from_N, end_N = self.fitting(seek), self.place(seek.of), self.place(until)
        from_P, end_P = from_N[found.row_P], end_N[found.row_P]
        if seek.step > 0:
            return found.take((from_P >= 0) & (found.place_P >= from_P) & (found.place_P < end_P))
        found = found.take((from_P >= 0) & (end_P >= 0) & (found.place_P < from_P) & (found.place_P > end_P))
        return found.take(np.lexsort((-found.place_P, found.row_P)))

    def _ranked(self, seek: Seek, rank: Ranking) -> Ints:
        """A search by rank; NONE where two units cannot be compared."""
        found, traces = self.between(seek, rank.until), self.search.traces
        n, nth_N = traces.n_symbols, self.count(seek.nth)
        about = Search(traces, self.search.rows.take(found.row_P))
        name_P = traces.at(about.rows, about.move(found.place_P.astype(np.int32), rank.offset))
        first_SS = np.zeros((n + 1, n + 1), dtype=bool)  # the last stands for what is no symbol
        if rank.before:
            first_SS[tuple(np.array(rank.before).T)] = True
        size = np.bincount(found.row_P, minlength=len(self.search.rows))
        x_P = np.arange(len(found.row_P)) - (np.cumsum(size) - size)[found.row_P]
        shape = len(size), int(size.max(initial=0))
        name_NX, place_NX = np.full(shape, n), np.full(shape, NONE)
        name_NX[found.row_P, x_P] = np.where((name_P >= 0) & (name_P < n), name_P, n)
        place_NX[found.row_P, x_P] = found.place_P
        there_NX, x_X = place_NX >= 0, np.arange(shape[1])
        same_NXX = name_NX[:, :, None] == name_NX[:, None, :]
        ahead_NXX = np.where(same_NXX, x_X[:, None] < x_X, first_SS[name_NX[:, :, None], name_NX[:, None, :]])
        known_NXX = same_NXX | ahead_NXX | ahead_NXX.transpose(0, 2, 1)
        both_NXX = there_NX[:, :, None] & there_NX[:, None, :]
        ahead_NX, known_NX = (ahead_NXX & both_NXX).sum(1), (known_NXX | ~both_NXX).all(1)
        n_NX = np.broadcast_to(np.asarray(nth_N).reshape(-1, 1), shape)
        is_NX, open_NX = there_NX & known_NX & (ahead_NX == n_NX), there_NX & ~known_NX & (ahead_NX <= n_NX)
        chosen_N = is_NX.argmax(1) if shape[1] else np.zeros(len(size), dtype=np.intp)
        good_N = is_NX.any(1) & ~(open_NX & (x_X < chosen_N[:, None])).any(1)
        return np.where(good_N, place_NX[np.arange(len(size)), chosen_N] if shape[1] else NONE, NONE).astype(np.int32)

    def fitting(self, seek: Seek) -> Found:
        """All units that a search may stop at."""
        keys = [(same.offset, self.place(same.as_)) for same in seek.same]
        found = self.search.match(seek.kind, keys) if keys else self.search.every(seek.kind)
        for where in seek.where:
            found = self._meeting(found, where)
        return found

    def about(self, found: Found) -> Evaluator:
        """Evaluates conditions of found units, each a row."""
        looked = {s: [place_N[found.row_P] for place_N in places] for s, places in self.looked.items()}
        search = Search(self.search.traces, self.search.rows.take(found.row_P))
        return Evaluator(search, looked, found.place_P.astype(np.int32))

    def _meeting(self, found: Found, where: Where) -> Found:
        """Of found units those of which a condition holds."""
        parts = [found.take(slice(i, i + PAIRS)) for i in range(0, len(found.row_P), PAIRS)]
        holds = [self.about(part).is_value(where.ask, where.finds) == where.holds for part in parts]
        return found.take(np.concatenate(holds)) if holds else found

    def count(self, count: Count) -> Ints | int:
        """A counter's value on each row."""
        if count.count is None:
            return count.plus
        since = Answer() if count.since is None else count.since
        return count.plus + self.search.count(count.count, self.place(since))

    def unit(self, pointer: Pointer) -> Ints:
        """The unit a pointer stands at, as a number; NONE where there is none."""
        return self.search.traces.at(self.search.rows, self.place(pointer))

    def is_value(self, question: Question, value: object) -> NDArray[np.bool_]:
        """On which rows a question finds a value."""
        traces = self.search.traces
        match question:
            case Equal():
                name_N = self.unit(question.at)
                equal_N = (name_N >= 0) & (name_N == self.unit(question.as_))
                return np.asarray(equal_N == bool(value))
            case Order():
                place_N, of_N = self.place(question.at), self.place(question.as_)
                known_N = (place_N >= 0) & (of_N >= 0)
                return np.asarray(~known_N if value is None else known_N & (np.sign(place_N - of_N) == value))
            case Relation():
                table = dict(zip(question.rows, question.finds, strict=True))
                name_NA = np.stack([self.unit(pointer) for pointer in question.of], 1)
                name_RA, row_N = np.unique(name_NA, axis=0, return_inverse=True)
                is_R = np.array([table.get(tuple(row)) == value for row in name_RA.tolist()], dtype=bool)
                return np.asarray(is_R[row_N.ravel()])
            case Tally():
                number_N = self.search.count(question.count, self.place(question.since))
                return np.asarray(number_N < 0 if value is None else number_N == value)
            case Mask():
                name_N = self.unit(question.at)
                if isinstance(value, str) and value.startswith(MASK):
                    is_N = (name_N >= 0) & (name_N < traces.n_symbols)
                    return np.asarray(is_N & (traces.class_S[np.where(is_N, name_N, 0)] == int(value[1:])))
            case _:
                name_N = self.unit(question.at)
        if value is None:
            return np.asarray(name_N < 0)
        number = value if isinstance(value, int) else traces.numbers.get(plain(str(value)), -2)
        return np.asarray(name_N == number)

    def leaves(self, decision: Decision, rows: NDArray[np.intp]) -> Iterator[tuple[Leaf | None, NDArray[np.intp]]]:
        """The leaves of a decision with the rows that reach each; None for rows that reach none."""
        if not isinstance(decision, Test):
            yield decision, rows
            return
        left = rows
        for case in decision.cases:
            inside_N = np.zeros(len(self.search.rows), dtype=bool)
            for value in case.values:
                inside_N |= self.is_value(decision.ask, value)
            yield from self.leaves(case.then, left[inside_N[left]])
            left = left[~inside_N[left]]
        if decision.otherwise is not None:
            yield from self.leaves(decision.otherwise, left)
        elif len(left):
            yield None, left
