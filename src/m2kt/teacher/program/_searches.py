"""Copies of what a search by rank, or one with conditions, finds; tried where no nearer pointer does.

Letters: N rows, U units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import Count, Pointer, Seek
from m2kt.packet._pointers import Case, Decision, Mask, Test, WriteCopy, WriteLiteral
from m2kt.teacher.program._columns import Columns
from m2kt.teacher.program._evaluate import Evaluator
from m2kt.teacher.program._filters import FILTER_ROWS, MAX_FILTERS, FilterSearch
from m2kt.teacher.program._ranks import MAX_RANKED, RankSearch
from m2kt.teacher.program._state import StateRows
from m2kt.teacher.program._traces import NONE, Ints, Search

RANK_ROWS = 1500  # rows on which ranks are learnt


def searched(
    state: StateRows, chosen: NDArray[np.intp], rows: NDArray[np.intp], lead: str, rng: np.random.Generator
) -> Decision | None:
    """The first unit of a region by rank, or the first of a kind, from a mark on, of which a condition holds.

    One symbol that stands nowhere before may be written where there is no such unit.

    Args:
        chosen: a sample: rows of the state.
        rows: of these, those that write the mask.
    """
    sample = chosen[rows]
    standing_N, written_N = _stands(state, sample), state.written_N[sample]
    other = np.unique(written_N[~standing_N])
    if len(other) > 1 or not standing_N.any():
        return None
    alike = np.flatnonzero(state.label_N == state.label_N[sample[0]])[:RANK_ROWS]
    ranks = _by_rank(state, alike[_stands(state, alike)])
    some = rng.permutation(len(sample))[:FILTER_ROWS]
    filters = _past(state, sample[some], ~standing_N[some])
    every = _evaluator(state, sample)
    for pointer in chain(ranks, filters):
        if (every.unit(pointer) == np.where(standing_N, written_N, NONE)).all():
            copy = WriteCopy(source=pointer, lead=lead)
            literals = [WriteLiteral(text=lead + state.traces.symbols[s], symbol=s, lead=lead) for s in other.tolist()]
            absent = [Case(values=[None], then=literal) for literal in literals]
            return Test(ask=Mask(at=pointer), cases=absent, otherwise=copy) if absent else copy
    return None


def told_by_presence(contents: dict[int, Decision], evaluator: Evaluator, label_N: Ints) -> Test | None:
    """Of two masks the one behind whose search there is a unit.

    Args:
        contents: the decision behind each label.
        label_N: the label of each row.
    """
    for label, content in contents.items() if len(contents) == 2 else ():
        if isinstance(content, WriteCopy) and isinstance(content.source, Seek) and content.source.where:
            other = next(o for o in contents if o != label)
            if ((evaluator.place(content.source) >= 0) == (label_N == label)).all():
                case = Case(values=[None], then=contents[other])
                return Test(ask=Mask(at=content.source), cases=[case], otherwise=content)
    return None


def next_by_rank(
    columns: Columns, known: Sequence[Seek], rows: NDArray[np.intp], written_N: Ints, lead: str
) -> WriteCopy | None:
    """The n-th by a rank that another state knows, n being a number of units written."""
    evaluator = Evaluator(columns.search, columns.looked)
    numbers = [Count(plus=plus) for plus in (1, 2, 3)]
    numbers += [counter.count(plus) for counter in columns.counters for plus in (0, 1, -1)]
    for seek in (seek for seek in known if seek.rank is not None):
        for nth in numbers:
            pointer = seek.model_copy(update={"nth": nth})
            if (evaluator.unit(pointer)[rows] == written_N).all():
                return WriteCopy(source=pointer, lead=lead)
    return None


def _by_rank(state: StateRows, rows: NDArray[np.intp]) -> Iterator[Pointer]:
    """Searches by rank, learnt from more rows than a sample: few say how two rare symbols stand to each other."""
    return islice(RankSearch(_columns(state, rows), state.written_N[rows]).find(), MAX_RANKED)


def _past(state: StateRows, rows: NDArray[np.intp], absent_N: NDArray[np.bool_]) -> Iterator[Pointer]:
    """Searches with conditions."""
    columns = _columns(state, rows)
    return islice(
        FilterSearch(columns, state.written_N[rows], absent_N, anchored=False).find(columns.origins), MAX_FILTERS
    )


def _stands(state: StateRows, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """On which rows the symbol that is written stands before already."""
    search = Search(state.traces, state.rows.take(rows))
    before_NU = np.arange(search.names_NU.shape[1]) < search.rows.here_N[:, None]
    return np.asarray(((search.names_NU == state.written_N[rows, None]) & before_NU).any(1))


def _columns(state: StateRows, rows: NDArray[np.intp]) -> Columns:
    looked = {s: [place_N[rows] for place_N in places] for s, places in state.looked.items()}
    return Columns(Search(state.traces, state.rows.take(rows)), looked)


def _evaluator(state: StateRows, rows: NDArray[np.intp]) -> Evaluator:
    columns = _columns(state, rows)
    return Evaluator(columns.search, columns.looked)
