"""Filters: the next unit of a kind of which a condition holds, learnt from the units that steps went past.

A step that copies the first unit of its kind behind some place that is like the one written says two things: the
condition holds of this unit, and of none of those before it. Where several units are like the one written, it may be
another than the first that is meant: then the steps with one alone say what the condition is.
Letters: N rows, P pairs of a row and a unit, C columns, Q questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import Answer, Here, It, Kind, Move, Pointer, Seek
from m2kt.packet._pointers import Relation, Value, Where
from m2kt.probes import MASK
from m2kt.teacher.program._actions import CHANCE_BITS, RuleSearch
from m2kt.teacher.program._candidates import Batch, Candidates, Column, First, Make
from m2kt.teacher.program._columns import Columns
from m2kt.teacher.program._evaluate import Evaluator
from m2kt.teacher.program._looks import Looks, first_of_trace, follow
from m2kt.teacher.program._makers import make_back, make_move, make_seek_same
from m2kt.teacher.program._tests import Questions, YesNo
from m2kt.teacher.program._traces import Found, Ints, Rows, Search, Traces
from m2kt.teacher.program._trees import entropy_bits

LEAST_PASSED = 6  # units that steps must have gone past
LEAST_SURE = 0.15  # share of rows on which one unit alone is like the one written
MAX_KINDS = 6  # of each origin, those whose steps went past fewest units first
MAX_KEYS = 24  # pointers that a unit is compared with
AROUND = 4  # units around the one that is asked about
MAX_SINGLE, MAX_JOINT = 6, 3  # conditions that are offered; of which one may consist
ARGUMENTS = 30  # columns that may be arguments of a relation
MAX_MATCHED = 12  # keys that are looked for from marks on
MAX_ARITY = 2
LEAST_BEGUN = 8  # first steps of loops, from which a filter may be learnt
FILTER_ROWS, MORE_ROWS = 320, 80  # rows on which filters are learnt; those that join where one goes wrong
MAX_LEARNT = 6  # times that a loop's filter is learnt
BEHIND = (1, 2, 3)  # units behind the last look from which a search may begin
MAX_FILTERS = 24  # that are tried

Bools = NDArray[np.bool_]
Origin = tuple[Make, int, Ints]
"""How a place is written, in which direction the search goes, and where it begins on each row."""


@dataclass(frozen=True)
class _Labelled:
    """Units of a kind behind an origin: those copied, and those gone past."""

    kind: Kind
    found: Found
    copied_P: Bools
    every: Found
    """All of them, in the order of the search."""
    hit_P: Bools
    """Which of all are like the one written."""

    @property
    def n_passed(self) -> int:
        """Units gone past."""
        return int((~self.copied_P).sum())


class FilterSearch:
    """Searches that find what is written on some rows.

    Args:
        columns: the candidates of the rows.
        written_N: the unit that each row writes.
        absent_N: rows that write something else, for there is no such unit.
        anchored: whether conditions rest on nothing that moves on with each unit, as in a loop.
    """

    def __init__(self, columns: Columns, written_N: Ints, absent_N: Bools | None = None, *, anchored: bool) -> None:
        self.columns, self.search, self.written_N = columns, columns.search, written_N
        self.absent_N: Bools = np.zeros(len(written_N), dtype=bool) if absent_N is None else absent_N
        self.evaluator = Evaluator(columns.search, columns.looked)
        asked = Columns(columns.search, anchored=True) if anchored else columns
        every, chosen = asked.upto(1), asked.distinct(1, MAX_KEYS, symbols=True)[0]
        self.keys = [every[c] for c in chosen]

    def find(self, origins: Sequence[Origin]) -> Iterator[Seek]:
        """Searches from these origins, likely ones first; they fit the rows that are told from others."""
        for make, step, from_N in origins:
            seen: set[bytes] = set()
            options: list[_Labelled] = []
            for kind in self.columns.kinds.symbols:
                for labelled in self._labelled(kind, step, from_N):
                    key = labelled.found.row_P.tobytes() + labelled.found.place_P.tobytes()
                    if key not in seen:
                        seen.add(key)
                        options.append(labelled)
            for labelled in sorted(options, key=lambda o: o.n_passed)[:MAX_KINDS]:
                for where in self._conditions(labelled):
                    yield Seek(of=make(), step=1 if step > 0 else -1, kind=labelled.kind, where=where)

    def _labelled(self, kind: Kind, step: int, from_N: Ints) -> Iterator[_Labelled]:
        """The units of a kind up to the one copied: the first that is like the one written, or where one alone is.

        Nothing where it is not among them, or hardly any was gone past.
        """
        found = self.search.every(kind)
        from_P = from_N[found.row_P]
        found = found.take((from_P >= 0) & ((found.place_P >= from_P) if step > 0 else (found.place_P < from_P)))
        found = self._within(found, from_N) if step > 0 else found
        name_P = self.search.traces.name_MU[self.search.rows.trace_N[found.row_P], found.place_P]
        hit_P = (name_P == self.written_N[found.row_P]) & ~self.absent_N[found.row_P]
        n_hits_N = np.bincount(found.row_P[hit_P], minlength=len(self.written_N))
        if (n_hits_N[~self.absent_N] == 0).any():
            return
        target_N = self.search.nearest(found.take(hit_P), from_N, step)
        beyond_P = np.where(self.absent_N[found.row_P], 0, (found.place_P - target_N[found.row_P]) * step)
        every, every_hit_P = found, hit_P
        if step < 0:
            back_P = np.lexsort((-found.place_P, found.row_P))
            every, every_hit_P = found.take(back_P), hit_P[back_P]
        for use_N in (n_hits_N > 0, n_hits_N == 1):
            part = found.take((use_N | self.absent_N)[found.row_P] & (beyond_P <= 0))
            copied_P = part.place_P == target_N[part.row_P]
            if (~copied_P).sum() >= LEAST_PASSED and use_N.mean() >= LEAST_SURE:
                yield _Labelled(kind, part, copied_P, every, every_hit_P)

    def _within(self, found: Found, from_N: Ints) -> Found:
        """Of units behind an origin in the prompt those of the prompt: an answer may say it again."""
        prompt_N = self.search.traces.prompt_M[self.search.rows.trace_N]
        return found.take((found.place_P < prompt_N[found.row_P]) | (from_N >= prompt_N)[found.row_P])

    def _conditions(self, labelled: _Labelled) -> Iterator[list[Where]]:
        """What holds of the units copied and of none of those gone past."""
        copied_P = labelled.copied_P
        about = self.evaluator.about(labelled.found)
        asked = self._asked(about, labelled.found)
        columns = list(asked.columns)
        places = np.stack([column.place_N for column in columns])
        names = np.stack([self.search.traces.at(about.search.rows, place_P) for place_P in places])
        questions = Questions(self.search.traces, columns, names, places, asked.n_near, asked.about)
        n_told = float(entropy_bits(np.array([[copied_P.sum(), (~copied_P).sum()]], dtype=np.float32))[0])
        if len(questions.list) and n_told >= CHANCE_BITS + np.log2(len(questions.list)):
            yield from _joint(questions, copied_P)
        by_cost = sorted(columns[: asked.n_keys], key=lambda c: c.cost)
        relation = RuleSearch(about, by_cost[:ARGUMENTS], 0, copied_P.astype(np.int32)).relation(MAX_ARITY)
        if relation is not None and any(_rests_on_it(pointer) for pointer in relation.of):
            completed = self._completed(relation, labelled)
            if completed is not None:
                yield [Where(ask=completed, finds=1)]

    def _completed(self, relation: Relation, labelled: _Labelled) -> Relation | None:
        """The relation with rows from all steps, those too behind which several units are like the one written.

        None where it holds of a unit that another one is written instead of.
        """
        about, table = self.evaluator.about(labelled.every), dict(zip(relation.rows, relation.finds, strict=True))
        name_PA = np.stack([about.unit(pointer) for pointer in relation.of], 1)
        symbols_P = ((name_PA >= 0) & (name_PA < self.search.traces.n_symbols)).all(1)
        passed: dict[int, list[tuple[int, ...]]] = {}  # by step: units before the first like the one written
        alike: dict[int, list[tuple[int, ...]]] = {}  # and those like it
        for row, names, hit in zip(
            labelled.every.row_P[symbols_P].tolist(),
            map(tuple, name_PA[symbols_P].tolist()),
            labelled.hit_P[symbols_P].tolist(),
            strict=True,
        ):
            if hit:
                alike.setdefault(row, []).append(names)
            elif row not in alike:
                passed.setdefault(row, []).append(names)
        for names in (names for row in passed.values() for names in row):
            if table.setdefault(names, 0) == 1:
                return None
        for any_may in (False, True):  # first where one alone may be meant, at last the first that may
            for _ in range(len(relation.of) + 1):
                for units in alike.values():
                    if any(table.get(names) == 1 for names in units):
                        continue
                    maybe = [names for names in units if table.get(names) != 0]
                    if not maybe:
                        return None
                    if any_may or len(set(maybe)) == 1:
                        table[maybe[0]] = 1
        rows = sorted(table.items())
        return relation.model_copy(update={"rows": tuple(r for r, _ in rows), "finds": tuple(f for _, f in rows)})

    def _asked(self, about: Evaluator, found: Found) -> _Asked:
        """What conditions may ask about: the unit and those around it, keys, whether it stands elsewhere too."""
        store, search, it_P = Candidates(len(found.row_P)), about.search, about.place(It())
        for by in sorted(range(-AROUND, AROUND + 1), key=abs):
            store.add(Batch.one(make_move(It, by), 0.5 + 0.2 * abs(by), search.move(it_P, by)))
        marks = self.columns.marks
        for mark, cost, place_N in marks:
            store.add(Batch.one(mark, 1.0 + cost, place_N[found.row_P]))
        n_near = len(store)
        for key in self.keys:
            store.add(Batch.one(key.make, key.cost, key.place_N[found.row_P]))
        for key in self.keys[:MAX_MATCHED]:
            alike = self.search.of_kind(self.search.equal_to(key.place_N), Kind(own=MASK))
            for mark, cost, place_N in marks:
                if mark not in (Here, Answer):
                    matched_N = self.search.nearest(alike, place_N, 1)
                    store.add(Batch.one(_alike(mark, 1, key.make), 1.0 + cost + key.cost, matched_N[found.row_P]))
        n_keys = len(store)
        alike = search.of_kind(search.equal_to(it_P), Kind(own=MASK))
        for mark, step, place_N in self.columns.origins:
            place_P = search.nearest(alike, place_N[found.row_P], step)
            store.add(Batch.one(_alike(mark, step, It), 2.5, place_P))
        store.complete()
        around = range(min(2 * AROUND + 1, len(store)))
        return _Asked(First(store, len(store)), n_near, n_keys, [*around, *range(n_keys, len(store))])


@dataclass(frozen=True)
class _Asked:
    """Columns over pairs: units, marks, keys and what is like them, then where else the unit's symbol stands."""

    columns: Sequence[Column]
    n_near: int
    n_keys: int
    """Columns that may be arguments of a relation come before."""
    about: list[int]
    """Columns that are compared with all others."""


def _joint(questions: Questions, copied_P: Bools) -> Iterator[list[Where]]:
    """Single conditions, cheapest first, then several that hold together."""
    answer_QP = questions.answer_QN > 0
    yes_Q: Bools = np.asarray(answer_QP[:, copied_P].all(1))
    no_Q: Bools = np.asarray(~answer_QP[:, copied_P].any(1))
    usable = np.flatnonzero(yes_Q | no_Q)
    left_QP = answer_QP[usable][:, ~copied_P] == yes_Q[usable][:, None]  # gone past, and the condition holds
    cost_Q = questions.cost_Q[usable]
    exact = np.flatnonzero(~left_QP.any(1))
    for q in exact[np.argsort(cost_Q[exact], kind="stable")][:MAX_SINGLE].tolist():
        yield [_where(questions.list[usable[q]], bool(yes_Q[usable[q]]))]
    if len(exact) or not len(usable):
        return
    chosen: list[int] = []
    left_P = np.ones(left_QP.shape[1], dtype=bool)
    while left_P.any() and len(chosen) < MAX_JOINT:
        gained_Q = (~left_QP & left_P).sum(1) - cost_Q
        q = int(gained_Q.argmax())
        if not (~left_QP[q] & left_P).any():
            return
        chosen.append(q)
        left_P &= left_QP[q]
    if not left_P.any():
        yield [_where(questions.list[usable[q]], bool(yes_Q[usable[q]])) for q in chosen]


def _where(asked: YesNo, holds: bool) -> Where:
    value: Value = asked.value
    return Where(ask=asked.ask(), finds=value, holds=holds)


def _alike(mark: Make, step: int, key: Make) -> Make:
    """Where another unit stands that is like a key's."""
    return make_seek_same(mark, step, Kind(own=MASK), [(0, key)])


def _rests_on_it(pointer: Pointer) -> bool:
    while isinstance(pointer, Move | Seek):
        pointer = pointer.of
    return isinstance(pointer, It)


def loop_past(
    looks: Looks, index: NDArray[np.intp], allowed: int, rng: np.random.Generator
) -> tuple[Pointer, Ints] | None:
    """The filter by which the steps ``index`` go on, and where the last step before each looked.

    It is learnt from the first steps of each run, whose beginning is known, then followed; where it goes wrong, it is
    learnt again from these steps too.

    Args:
        allowed: steps that may differ.
    """
    traces, rows = looks.traces, looks.rows.take(index)
    written_N, copies_N = traces.written(rows), traces.copies(rows)
    last_N = looks.before()[index]
    begun = np.flatnonzero(copies_N & (last_N >= 0))
    if len(begun) < LEAST_BEGUN:
        return None
    some, search = rng.permutation(begun)[:FILTER_ROWS], Search(traces, rows)
    known_N = np.zeros(len(index), dtype=bool)
    known_N[begun] = True
    for _ in range(MAX_LEARNT):
        pointer = next_past(traces, rows.take(some), last_N[some])
        looked_N = None if pointer is None else looks.along(pointer, index, copies_N)
        if pointer is None or looked_N is None:
            return None
        wrong_N = copies_N & (traces.at(rows, follow(pointer, search, looked_N)) != written_N)
        if np.count_nonzero(wrong_N) <= allowed:
            return pointer, looked_N
        led_N = _first_of_each(wrong_N, rows.trace_N) & ~known_N  # steps before them in their trace are right
        if not led_N.any():
            return None
        last_N, known_N = np.where(led_N, looked_N, last_N), known_N | led_N
        some = np.concatenate([some, rng.permutation(np.flatnonzero(led_N))[:MORE_ROWS]])
    return None


def next_past(traces: Traces, rows: Rows, last_N: Ints) -> Seek | None:
    """The search from where the last step looked that finds what is written on these rows, past other units.

    Args:
        last_N: where the last step before each looked.
    """
    search, written_N = Search(traces, rows), traces.written(rows)
    last = make_back(None, 0)
    origins: list[Origin] = [(make_move(last, by), 1, search.move(last_N, by)) for by in BEHIND]
    origins.append((last, -1, last_N))
    filters = FilterSearch(Columns(search, {None: [last_N]}), written_N, anchored=True)
    for pointer in islice(filters.find(origins), MAX_FILTERS):
        if (filters.evaluator.unit(pointer) == written_N).all():
            return pointer
    return None


def _first_of_each(wrong_N: Bools, trace_N: Ints) -> Bools:
    """The first wrong row of each trace; rows of a trace stand together."""
    before_N: NDArray[np.intp] = np.cumsum(wrong_N) - wrong_N
    at_start_N: NDArray[np.intp] = before_N[first_of_trace(trace_N)]
    return np.asarray(wrong_N & (before_N == at_start_N))
