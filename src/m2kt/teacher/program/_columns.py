"""Candidate pointers of a state, in stages from near to far-fetched, with what each finds on every row.

Two pointers that find the same place on every row are one candidate: the cheaper stands for both.
Letters: N rows, C columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import Answer, Here, Kind, Seek, Start
from m2kt.probes import MASK
from m2kt.teacher.program._candidates import (
    LEAST_FOUND,
    Batch,
    Candidates,
    Column,
    Counter,
    First,
    Make,
    cheapest_first,
    distinct,
    unlike,
)
from m2kt.teacher.program._evaluate import Evaluator, Looked
from m2kt.teacher.program._kinds import Kinds, kinds_of
from m2kt.teacher.program._makers import (
    kind_cost,
    make_back,
    make_move,
    make_refounded,
    make_seek,
    make_seek_counted,
    make_seek_nth,
    make_seek_same,
)
from m2kt.teacher.program._traces import NONE, Ints, Search

NEAR = 16  # units back from here that are candidates as they are
STAGES = 5
CHUNK = 400  # candidates that are read at once
FIRST_ROWS = 8  # on which all candidates for a copy are read
AROUND = 4  # units within which a key must stand from what is looked up
MAX_PROMPT_MARKS = 6  # structure that stands once in every prompt
NEAR_COST = 0.08  # share of rows that a key must stand near more for each unit of its cost
MAX_KEYS, CHEAP_KEYS = 42, 18  # pointers whose unit is looked up; of these the cheapest
MAX_COUNTERS = 18
MAX_MARKS = 12  # starting points of searches
MAX_ORIGINS = 8  # pieces of the answer's structure before which a look-up may begin
MAX_CELLS = 3  # symbols of a class behind what is looked up
MAX_PAIRED = 14  # keys that are combined in twos
SHIFTS = (-3, -2, -1, 1, 2, 3)


class Columns:
    """The candidates for one state's rows.

    Args:
        looked: by state (None: any step), where its last step looked, for each of its arguments (N,).
        filters: searches with conditions by which other states go on; they may start elsewhere too.
        anchored: those alone that do not move on with each unit written.
    """

    def __init__(
        self, search: Search, looked: Looked | None = None, filters: Sequence[Seek] = (), *, anchored: bool = False
    ) -> None:
        self.search, self.looked, self.filters, self.anchored = search, looked or {}, filters, anchored
        self._found = Candidates(len(search.rows.here_N))
        self._ends: list[int] = []  # of each stage

    def upto(self, stage: int) -> Sequence[Column]:
        """All candidates of the first stages."""
        build = self._near, self._landmarks, self._counted, self._matched, self._matched_twice
        while len(self._ends) <= stage:
            for batch in build[len(self._ends)]():
                self._found.add(batch)
            self._ends.append(self._found.complete())
        return First(self._found, self._ends[stage])

    def costs(self, stage: int) -> NDArray[np.float64]:
        """What each candidate of the first stages costs (C,)."""
        return np.array(self._found.costs[: len(self.upto(stage))])

    def places(self, stage: int) -> Ints:
        """Where each candidate of the first stages stands (C, N)."""
        return self._found.place_CN[: len(self.upto(stage))]

    def units(self, chosen: Sequence[int] | NDArray[np.intp], rows: NDArray[np.intp] | None = None) -> Ints:
        """The unit that each of some candidates finds on some rows (C, N); NONE where there is none."""
        place_CN, here_N, trace_N = self._found.place_CN[chosen], self._here, self.search.rows.trace_N
        if rows is not None:
            place_CN, here_N, trace_N = place_CN[:, rows], here_N[rows], trace_N[rows]
        seen_CN = (place_CN >= 0) & (place_CN < here_N)
        return np.where(seen_CN, self.search.traces.name_MU[trace_N, place_CN * seen_CN], NONE).astype(np.int32)

    def holding(self, stage: int, rows: NDArray[np.intp], written_N: Ints) -> list[int]:
        """The candidates that find what is written on each of these rows, cheapest first."""
        some = np.unique(np.linspace(0, len(rows) - 1, FIRST_ROWS).astype(np.intp))
        left = np.arange(len(self.upto(stage)))
        for part in (some, np.arange(len(rows))):
            left = left[(self.units(left, rows[part]) == written_N[part]).all(1)]
        return cheapest_first(left, self.costs(stage))

    def distinct(
        self, stage: int, most: int, rows: NDArray[np.intp] | None = None, *, symbols: bool = False
    ) -> tuple[list[int], Ints]:
        """The cheapest candidates that find different units on these rows, and the units (C, N).

        Args:
            symbols: of those alone that find symbols everywhere, and not the same one.
        """
        read = ((c, name_N) for c, name_N in self._cheapest_units(stage, rows) if not symbols or self._varies(name_N))
        found = list(unlike(read, most))
        n = len(self._here) if rows is None else len(rows)
        return [c for c, _ in found], np.array([name_N for _, name_N in found], dtype=np.int32).reshape(len(found), n)

    def _cheapest_units(self, stage: int, rows: NDArray[np.intp] | None) -> Iterator[tuple[int, Ints]]:
        """Candidates by cost with the units that they find, read as far as they are asked for."""
        order = np.argsort(self.costs(stage), kind="stable")
        for begin in range(0, len(order), CHUNK):
            part = order[begin : begin + CHUNK]
            yield from zip(part.tolist(), self.units(part, rows), strict=True)

    def _varies(self, name_N: Ints) -> bool:
        """Whether symbols stand everywhere, and not the same one."""
        low, high = int(name_N.min()), int(name_N.max())
        return 0 <= low < high < self.search.traces.n_symbols

    # -- bases ------------------------------------------------------------------------------------------------------
    @cached_property
    def _here(self) -> Ints:
        return self.search.rows.here_N

    @cached_property
    def _start(self) -> Ints:
        return np.zeros_like(self._here)

    @cached_property
    def _answer(self) -> Ints:
        return self.search.traces.prompt_M[self.search.rows.trace_N]

    @property
    def kinds(self) -> Kinds:
        """The kinds of units in these traces."""
        return kinds_of(self.search.traces)

    @cached_property
    def marks(self) -> list[tuple[Make, float, Ints]]:
        """Starting points: ends of the texts, and the last pieces of structure."""
        marks: list[tuple[Make, float, Ints]] = [
            (Here, 0.0, self._here),
            (Answer, 0.5, self._answer),
            (Start, 0.5, self._start),
        ]
        seen: set[bytes] = set()

        def is_new(place_N: Ints) -> bool:
            """Whether no mark stands always as far from it; only where it is found on every row."""
            if place_N.tobytes() in seen:
                return False
            seen.add(place_N.tobytes())
            if (place_N < 0).any():
                return True
            return all((place_N - other_N != place_N[0] - other_N[0]).any() for _, _, other_N in marks)

        n_marks = 0
        for kind in self.kinds.structures:
            if n_marks >= MAX_PROMPT_MARKS:
                break
            place_N = self.search.seek(self._start, 1, kind, 0)
            once_N = self.search.seek(self._start, 1, kind, 1)
            alone = ((once_N < 0) | (once_N >= self._answer)).mean() > 0.9
            if alone and ((place_N >= 0) & (place_N < self._answer)).mean() > 0.9 and is_new(place_N):
                marks.append((make_seek(Start, 1, kind, 0), 1.5, place_N))
                n_marks += 1
        for kind in self.kinds.structures:
            for nth in (0, 1):
                place_N = self.search.seek(self._here, -1, kind, nth)
                in_answer = (place_N >= self._answer).mean()
                if in_answer > 0.3 and len(marks) < MAX_MARKS and is_new(place_N):
                    marks.append((make_seek(Here, -1, kind, nth), 2.0 + 0.5 * nth, place_N))
        return marks

    @property
    def origins(self) -> list[tuple[Make, int, Ints]]:
        """Where searches begin, and in which direction: from the marks on, back from the ends of the texts."""
        both = [(make, -1 if make in (Here, Answer) else 1, place_N) for make, _, place_N in self.marks]
        return sorted(both, key=lambda origin: -origin[1])

    # -- stages -----------------------------------------------------------------------------------------------------
    def _near(self) -> Iterator[Batch]:
        if not self.anchored:
            yield self._moved(Here, 1.0, self._here, range(0, -NEAR - 1, -1), 0.12)
        for state, arguments in self.looked.items():
            for argument, place_N in enumerate(arguments):
                cost = 1.5 + (0.5 if state is None else 0.0) + 0.2 * argument
                yield self._moved(make_back(state, argument), cost, place_N, (1, 0, -1, 2, -2, 3, -3), 0.3, nearest=1)
        yield self._moved(Start, 1.8, self._start, range(4), 0.3)
        yield self._moved(Answer, 1.8, self._answer, (-3, -2, -1, 0, 1, 2), 0.3)

    def _moved(
        self, base: Make, cost: float, place_N: Ints, shifts: Sequence[int], each: float = 0.2, nearest: int = 0
    ) -> Batch:
        """Units so far from a place; each unit farther from ``nearest`` costs ``each`` more."""
        cost_X = [cost + each * abs(by - nearest) for by in shifts]
        place_XN = self.search.move(place_N, np.array(shifts, dtype=np.int32)[:, None])
        return Batch(lambda x: make_move(base, shifts[x]), cost_X, place_XN)

    def _landmarks(self) -> Iterator[Batch]:
        for base, base_cost, base_N in self._bases():
            for step in (1, -1):
                for nth in (0, 1, 2):
                    seek, cost = make_seek_nth(base, step, nth), base_cost + 2.0 + 0.5 * nth
                    yield self._beside(seek, cost, (1, -1, 2, -2), (base_N, step, nth))
        yield from self._filtered()

    def _filtered(self) -> Iterator[Batch]:
        """What the known filters find from other starting points."""
        evaluator = Evaluator(self.search, self.looked)
        origins = [(make, 1, place_N) for make, _, place_N in self.marks if make is not Here]
        if None in self.looked:
            last, last_N = make_back(None, 0), self.looked[None][0]
            origins += [(make_move(last, by), 1, self.search.move(last_N, by)) for by in (1, 2, 3)]
            origins.append((last, -1, last_N))
        for known in (known for known in self.filters if known.rank is None):
            found = evaluator.fitting(known)
            for make, step, place_N in origins:
                yield Batch.one(make_refounded(known, make, step), 2.0, self.search.nearest(found, place_N, step))

    def _beside(
        self,
        seek: Callable[[Kind], Make],
        cost: float,
        shifts: Sequence[int],
        sought: tuple[Ints, int, Ints | int],
    ) -> Batch:
        """What a search for each kind finds, and the units around what is no symbol of any sort."""
        tables, by_Y = self.kinds.tables, np.array([0, *shifts], dtype=np.int32)
        from_N, step, nth_N = sought
        place_KN = self.search.seek_all(from_N, step, tables, nth_N)
        kept = np.flatnonzero((place_KN >= 0).mean(1) >= LEAST_FOUND)
        place_XN = self.search.move(place_KN[kept, None], by_Y[:, None]).reshape(-1, place_KN.shape[1])
        chosen = np.flatnonzero(~self._any_K[kept, None] | (by_Y == 0))
        extra_Y = np.where(by_Y == 0, 0.0, 0.4 + 0.2 * np.abs(by_Y))
        cost_X = (cost + self._cost_K[kept, None] + extra_Y).ravel()[chosen]

        def make(x: int) -> Make:
            k, y = divmod(int(chosen[x]), len(by_Y))
            return make_move(seek(tables.kinds[kept[k]]), int(by_Y[y]))

        return Batch(make, cost_X.tolist(), place_XN[chosen])

    @cached_property
    def _any_K(self) -> NDArray[np.bool_]:
        """Which kinds are any symbol of a sort, and not structure or chosen symbols."""
        return np.array([str(kind.own).startswith(MASK) for kind in self.kinds.tables.kinds], dtype=bool)

    @cached_property
    def _cost_K(self) -> NDArray[np.float64]:
        return np.array([kind_cost(kind) for kind in self.kinds.tables.kinds])

    def _bases(self) -> list[tuple[Make, float, Ints]]:
        """Marks, and where steps looked."""
        bases = [mark for mark in self.marks if not (self.anchored and mark[0] is Here)]
        for state, arguments in self.looked.items():
            bases += [(make_back(state, i), 1.0, place_N) for i, place_N in enumerate(arguments)]
        return bases

    @cached_property
    def counters(self) -> list[Counter]:
        """Counters that vary over the rows, cheapest first; one of those that differ by a constant."""
        found: dict[bytes, Counter] = {}
        kinds = [*self.kinds.structures, *self.kinds.symbols]
        for base, base_cost, base_N in self.marks:
            for kind in kinds if base is not Here else ():
                number_N = self.search.count(kind, base_N)
                usable_N = number_N >= 0
                if not usable_N.any() or number_N[usable_N].min() == number_N[usable_N].max():
                    continue
                cost = 1.0 + kind_cost(kind) + (base_cost if base is not Answer else 0.0)
                key = (number_N - number_N[usable_N][0]).tobytes() if usable_N.all() else number_N.tobytes()
                if key not in found or cost < found[key].cost:
                    found[key] = Counter(kind, base, cost, number_N)
        return sorted(found.values(), key=lambda f: f.cost)

    def _counted(self) -> Iterator[Batch]:
        bases = [mark for mark in self.marks if mark[0] is not Here]
        counters = [counter for counter in self.counters if counter.since is not Start][:MAX_COUNTERS]
        for counter in counters:
            for base, base_cost, base_N in bases:
                for step in (1, -1):
                    if step < 0 and base is Start:
                        continue
                    for plus in (0, 1, -1):
                        seek = make_seek_counted(base, step, counter, plus)
                        cost = base_cost + 2.0 + counter.cost + 0.3 * abs(plus)
                        yield self._beside(seek, cost, (-1, 1, -2, 2), (base_N, step, counter.number_N + plus))

    @cached_property
    def _near_written_NS(self) -> NDArray[np.bool_]:
        """Which symbols stand within ``AROUND`` units of an earlier unit that is the one written (N, S)."""
        traces, names_NU = self.search.traces, self.search.names_NU
        u_U = np.arange(names_NU.shape[1])
        is_NU = (names_NU == traces.written(self.search.rows)[:, None]) & (u_U < self._here[:, None])
        near_NU = is_NU.copy()
        for by in range(1, AROUND + 1):
            near_NU[:, by:] |= is_NU[:, :-by]
            near_NU[:, :-by] |= is_NU[:, by:]
        near_NU &= (u_U < self._here[:, None]) & (names_NU >= 0) & (names_NU < traces.n_symbols)
        near_NS = np.zeros((len(names_NU), traces.n_symbols), dtype=bool)
        n_P, u_P = np.nonzero(near_NU)
        near_NS[n_P, names_NU[n_P, u_P]] = True
        return near_NS

    @cached_property
    def _keys(self) -> list[Column]:
        """Pointers whose symbol may be looked up: those that stand near what is written, and cheap ones.

        Of several that hold the same, the cheapest.
        """
        columns = self.upto(2)
        name_CN = self.units(np.arange(len(columns)))
        symbol_CN = (name_CN >= 0) & (name_CN < self.search.traces.n_symbols)
        varies_C = (symbol_CN.mean(1) > 0.5) & (name_CN != name_CN[:, :1]).any(1)
        chosen = distinct(np.flatnonzero(varies_C), self.costs(2), name_CN)
        n_N = np.arange(name_CN.shape[1])
        near_C = [float(self._near_written_NS[n_N, name_CN[c] * symbol_CN[c]][symbol_CN[c]].mean()) for c in chosen]
        ranked = sorted(range(len(chosen)), key=lambda i: NEAR_COST * columns[chosen[i]].cost - near_C[i])
        picked = dict.fromkeys([*ranked[: MAX_KEYS - CHEAP_KEYS], *range(min(CHEAP_KEYS, len(chosen)))])
        return [columns[chosen[i]] for i in picked]

    def _matched(self) -> Iterator[Batch]:
        marks = [m for m in self.marks[3:] if (m[2] >= self._answer).mean() > 0.3][:MAX_ORIGINS]
        for key in self._keys:
            origins: list[tuple[Make, int, float, Ints]] = [
                (Here, -1, 0.0, self._here),
                (Start, 1, 0.3, self._start),
                (key.make, -1, 0.6, key.place_N),
                (key.make, 1, 0.6, key.place_N),
                (Answer, 1, 0.5, self._answer),
                (Answer, -1, 0.5, self._answer),
            ]
            origins += [(make, -1, cost * 0.5, place_N) for make, cost, place_N in marks]
            equal = self.search.equal_to(key.place_N)
            seen: set[bytes] = set()
            for kind in self.kinds.symbols:
                found = self.search.of_kind(equal, kind)
                bits = found.row_P.tobytes() + found.place_P.tobytes()
                if len(found.row_P) < LEAST_FOUND * len(self._here) or bits in seen:
                    continue
                seen.add(bits)
                for make, step, base_cost, base_N in origins:
                    place_N = self.search.nearest(found, base_N, step)
                    cost = 2.5 + base_cost + kind_cost(kind) + key.cost
                    if not self._found.lacks(place_N):
                        continue
                    seek = make_seek_same(make, step, kind, [(0, key.make)])
                    yield self._moved(seek, cost, place_N, (0, *SHIFTS))
                    yield from self._next_to(seek, cost, place_N)

    def _next_to(self, base: Make, cost: float, place_N: Ints) -> Iterator[Batch]:
        """The next symbols of each class behind a place (cells of a row behind its name), and the last before it."""
        behind_N = self.search.move(place_N, 1)
        for kind in self.kinds.classes:
            for nth in range(MAX_CELLS):
                cell_N = self.search.seek(behind_N, 1, kind, nth)
                yield Batch.one(make_seek(make_move(base, 1), 1, kind, nth), cost + 0.7 + 0.2 * nth, cell_N)
            yield Batch.one(make_seek(base, -1, kind, 0), cost + 0.8, self.search.seek(place_N, -1, kind, 0))

    def _matched_twice(self) -> Iterator[Batch]:
        kind = Kind(own=MASK)
        keys = self._keys[:MAX_PAIRED]
        for first in keys:
            equal = self.search.of_kind(self.search.equal_to(first.place_N), kind)
            for second in keys:
                for offset in (1, 2, 3, 4) if first is not second else ():
                    found = self.search.beside(equal, offset, second.place_N)
                    if len(found.row_P) < LEAST_FOUND * len(self._here):
                        continue
                    for base, step, base_N in ((Here, -1, self._here), (Start, 1, self._start)):
                        place_N = self.search.nearest(found, base_N, step)
                        cost = 4.0 + 0.2 * offset + first.cost + second.cost
                        seek = make_seek_same(base, step, kind, [(0, first.make), (offset, second.make)])
                        yield self._moved(seek, cost, place_N, (0, -2, -1, 1, 2, 3, 4, 5, 6))
                        yield from self._next_to(make_move(seek, offset), cost + 0.3, self.search.move(place_N, offset))
