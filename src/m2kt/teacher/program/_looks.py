"""Where steps looked, and loops that go on from there: the next unit of a kind behind the one copied last.

A loop cannot be read off its rows one by one, for where a step looked is not written down. So a way to go on is
supposed, followed from the first step of each run, and kept if it finds what is written at every step.
Letters: N rows, in the order of the traces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import Back, Kind, Move, Pointer, Seek
from m2kt.teacher.program._evaluate import Evaluator
from m2kt.teacher.program._traces import NONE, Ints, Rows, Search, Traces

UNKNOWN = -2  # the step is not explained yet
STEPS = (1, -1, 2, -2, 3, -3)
LAST = Back(state=None, argument=0)


def ways(kinds: list[Kind], marks: list[Kind]) -> Iterator[Pointer]:
    """Ways to go on, simple ones first: so many units on, to the next of a kind, or so far from the next mark."""
    for by in STEPS:
        yield Move(of=LAST, by=by)
    for kind in kinds:
        yield Seek(of=Move(of=LAST, by=1), step=1, kind=kind)
        yield Seek(of=LAST, step=-1, kind=kind)
    for mark in marks:
        for by in (-1, -2, -3, 1, 2):
            for step, start in ((1, 1 - by), (-1, -by)):
                seek = Seek(of=Move(of=LAST, by=start) if start else LAST, step=1 if step > 0 else -1, kind=mark)
                yield Move(of=seek, by=by)


def follow(way: Pointer, search: Search, from_N: Ints) -> Ints:
    """Where a way leads from the places looked at last."""
    return Evaluator(search, {None: [from_N]}).place(way)


def first_of_trace(trace_N: Ints) -> NDArray[np.intp]:
    """The first row of each row's trace; rows of a trace stand together."""
    first_N = np.ones(len(trace_N), dtype=bool)
    first_N[1:] = trace_N[1:] != trace_N[:-1]
    return np.maximum.accumulate(np.where(first_N, np.arange(len(trace_N)), 0))


class Looks:
    """Where each step looked: UNKNOWN, NONE (a literal), or a place."""

    def __init__(self, traces: Traces, rows: Rows) -> None:
        self.traces, self.rows = traces, rows
        self.own_N = np.where(traces.copies(rows), UNKNOWN, NONE).astype(np.int32)  # structure is a literal
        self._first_N = first_of_trace(rows.trace_N)

    def _last(self) -> NDArray[np.intp]:
        """The last row before each that is no literal, of whatever trace; -1 where there is none."""
        last_N = np.maximum.accumulate(np.where(self.own_N != NONE, np.arange(len(self.rows)), -1))
        return np.concatenate([[-1], last_N[:-1]])

    def before(self) -> Ints:
        """Where the last step before each row looked that looked somewhere; UNKNOWN, or NONE where there is none."""
        last_N = self._last()
        found_N = last_N >= self._first_N
        return np.where(found_N, self.own_N[np.maximum(last_N, 0)], NONE).astype(np.int32)

    def begins(self, index: NDArray[np.intp]) -> NDArray[np.intp]:
        """The steps that looked last before the steps ``index``, as far as they are explained."""
        last_N = self._last()[index]
        last_N = last_N[last_N >= self._first_N[index]]
        return np.unique(last_N[self.own_N[last_N] != UNKNOWN])

    def waits(self, index: NDArray[np.intp]) -> bool:
        """Whether a step that looked last before one of the steps ``index``, and is none of them, is not explained."""
        before = self._last()[index]
        before = np.unique(before[before >= self._first_N[index]])
        return bool((self.own_N[np.setdiff1d(before, index)] == UNKNOWN).any())

    def loop(
        self,
        index: NDArray[np.intp],
        copies: NDArray[np.bool_],
        written_N: Ints,
        every: Iterable[Pointer],
        allowed: int,
    ) -> tuple[Pointer, Ints] | None:
        """The way by which the steps ``index`` go on, and where the last step before each looked.

        Args:
            copies: which of the steps write a symbol.
            every: the ways that are tried.
            written_N: the unit that each writes.
            allowed: steps that may differ.
        """
        before_N = self.before()
        begun_N = copies & (before_N[index] != UNKNOWN)
        begun = index[begun_N]
        if not len(begun):
            return None
        search = Search(self.traces, self.rows.take(begun))
        name_N = written_N[begun_N]
        for way in every:
            found_N = self.traces.at(search.rows, follow(way, search, before_N[begun]))
            if np.count_nonzero(found_N != name_N) > allowed:
                continue
            looked_N = self._follow(way, index, copies)
            if looked_N is None:
                continue
            search_all = Search(self.traces, self.rows.take(index))
            wrong_N = self.traces.at(search_all.rows, follow(way, search_all, looked_N)) != written_N
            if np.count_nonzero(wrong_N & copies) <= allowed:
                return way, looked_N
        return None

    def along(self, pointer: Pointer, index: NDArray[np.intp], copies: NDArray[np.bool_]) -> Ints | None:
        """``looked`` of a loop that is known; None if a run has no beginning."""
        return self._follow(pointer, index, copies)

    def _follow(self, way: Pointer, index: NDArray[np.intp], copies: NDArray[np.bool_]) -> Ints | None:
        """Where the last step before each row looked, if the rows go on this way; None if a run has no beginning."""
        kept_N = self.own_N.copy()
        self.own_N[index[~copies]] = NONE
        waiting = index[copies]
        while len(waiting):
            before_N = self.before()
            ready_N = before_N[waiting] != UNKNOWN
            if not ready_N.any():
                self.own_N = kept_N
                return None
            ready, waiting = waiting[ready_N], waiting[~ready_N]
            search = Search(self.traces, self.rows.take(ready))
            self.own_N[ready] = np.maximum(follow(way, search, before_N[ready]), NONE)
        looked_N = self.before()[index]
        self.own_N = kept_N
        return looked_N
