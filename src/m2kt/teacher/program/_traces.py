"""Traces as arrays: every unit a number, every step a row, and fast searches for pointers over many rows at once.

Letters: M traces, U units of the longest trace, N rows (one a step), S symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import Kind, plain
from m2kt.probes import MASK, Unit

Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]
START = ""  # the mask before the first unit of an answer
RARELY = 0.25  # share of an even one below which a symbol counts as rarely written
MAX_SETS = 3
MAX_CONTEXT = 4  # masks by which states may be told apart
NONE = -1  # no unit, or no place


@dataclass
class Rows:
    """Steps: which trace, and the index of the unit that is written."""

    trace_N: Ints
    here_N: Ints

    def __len__(self) -> int:
        return len(self.trace_N)

    def take(self, chosen: NDArray[np.intp] | Bools) -> Rows:
        """Some of them."""
        return Rows(self.trace_N[chosen], self.here_N[chosen])


class Traces:
    """All traces as arrays. A unit is a number: the symbol's id, or S and more for structure.

    Args:
        traces: units of prompt and answer, the stop unit last.
        n_prompts: units of each prompt.
    """

    def __init__(
        self,
        traces: Sequence[Sequence[Unit]],
        n_prompts: Sequence[int],
        symbols: Sequence[str],
        class_S: Sequence[int] | None = None,
    ) -> None:
        ids = {s: i for i, s in enumerate(symbols)}
        self.symbols, self.n_symbols = list(symbols), len(symbols)
        self.class_S = np.array(class_S or [0] * len(symbols), dtype=np.int32)
        self.lead_MU = np.zeros((len(traces), max(map(len, traces), default=0) + 1), dtype=bool)
        self.structure: list[str] = []
        number: dict[str, int] = {}
        self.length_M = np.array([len(units) for units in traces], dtype=np.int32)
        self.prompt_M = np.array(n_prompts, dtype=np.int32)
        self.name_MU = np.full((len(traces), int(self.length_M.max(initial=0)) + 1), NONE, dtype=np.int32)
        self.masks: list[list[str]] = []
        for m, units in enumerate(traces):
            masks: list[str] = []
            self.masks.append(masks)
            for u, unit in enumerate(units):
                self.lead_MU[m, u] = unit.lead == " "
                known = unit.symbol is not None and unit.symbol in ids
                masks.append(f"{unit.lead}{MASK}{self.class_S[ids[unit.symbol or '']]}" if known else unit.text)
                if unit.symbol is not None and unit.symbol in ids:
                    self.name_MU[m, u] = ids[unit.symbol]
                    continue
                text = plain(unit.text)
                if text not in number:
                    number[text] = self.n_symbols + len(self.structure)
                    self.structure.append(text)
                self.name_MU[m, u] = number[text]
        self.numbers = number
        self._kinds: dict[Kind, KindTable] = {}
        self.derived: dict[str, object] = {}  # what others find out about these traces, once

    def name(self, number: int) -> str | int | None:
        """The unit as a program names it: symbol id, or text; None where there is no unit."""
        if number < 0:
            return None
        return number if number < self.n_symbols else self.structure[number - self.n_symbols]

    def rows(self) -> tuple[Rows, list[tuple[str, ...]], list[str]]:
        """All steps, the last masks of the answer before each, and the mask written."""
        trace, here, written = [], [], []
        before: list[tuple[str, ...]] = []
        for m, masks in enumerate(self.masks):
            n = int(self.prompt_M[m])
            for t in range(n, len(masks)):
                trace.append(m)
                here.append(t)
                before.append(context_of(masks[n:t], MAX_CONTEXT))
                written.append(masks[t])
        return Rows(np.array(trace, dtype=np.int32), np.array(here, dtype=np.int32)), before, written

    @cached_property
    def touches_MU(self) -> Bools:
        """Whether a unit and the one before are symbols that touch, with no space between (M, U)."""
        is_symbol_MU = (self.name_MU >= 0) & (self.name_MU < self.n_symbols)
        touches_MU = is_symbol_MU & ~self.lead_MU
        touches_MU[:, 1:] &= is_symbol_MU[:, :-1]
        touches_MU[:, 0] = False
        return np.asarray(touches_MU)

    @cached_property
    def written_sets(self) -> list[tuple[int, ...]]:
        """The symbols that one mask is followed by, where they are only some of their class.

        Rarely written ones may be an exception, such as the zero that is written where nothing else is left.
        """
        rows, before, _ = self.rows()
        written_N = self.written(rows)
        by_mask: dict[tuple[str, ...], list[int]] = {}
        for masks, symbol in zip(before, written_N.tolist(), strict=True):
            if symbol < self.n_symbols:
                by_mask.setdefault(masks[-1:], []).append(symbol)
        sets: dict[tuple[int, ...], int] = {}
        for symbols in by_mask.values():
            unique, count = np.unique(symbols, return_counts=True)
            members = np.flatnonzero(np.isin(self.class_S, np.unique(self.class_S[unique])))
            common = tuple(unique[count >= RARELY * len(symbols) / len(members)].tolist())
            if 2 <= len(common) < len(members):
                sets[common] = max(sets.get(common, 0), len(symbols))
        return sorted(sets, key=lambda s: -sets[s])[:MAX_SETS]

    def written(self, rows: Rows) -> Ints:
        """The unit that each row writes."""
        return self.name_MU[rows.trace_N, rows.here_N]

    def copies(self, rows: Rows) -> Bools:
        """Which rows write a symbol."""
        return np.asarray(self.written(rows) < self.n_symbols)

    def at(self, rows: Rows, place_N: Ints) -> Ints:
        """The unit at a place of each row; NONE where none is written yet."""
        seen_N = (place_N >= 0) & (place_N < rows.here_N)
        return np.where(seen_N, self.name_MU[rows.trace_N, np.where(seen_N, place_N, 0)], NONE)

    def kind(self, kind: Kind) -> KindTable:
        """Where units of a kind stand."""
        table = self._kinds.get(kind)
        if table is None:
            table = self._kinds[kind] = KindTable.of(self, kind)
        return table

    def is_of(self, wanted: str | int | tuple[int, ...] | None) -> Bools:
        """Units of a mask, a symbol, or one of several symbols (M, U)."""
        if isinstance(wanted, tuple):
            is_one_MU: Bools = np.isin(self.name_MU, wanted)
            return is_one_MU
        if wanted is None:
            return self.name_MU >= 0
        if isinstance(wanted, str) and wanted.startswith(MASK):
            is_symbol_MU = (self.name_MU >= 0) & (self.name_MU < self.n_symbols)
            if len(wanted) > 1:
                is_symbol_MU &= self.class_S[np.where(is_symbol_MU, self.name_MU, 0)] == int(wanted[1:])
            return is_symbol_MU
        number = wanted if isinstance(wanted, int) else self.numbers.get(plain(wanted), -2)
        is_MU: Bools = self.name_MU == number
        return is_MU


def context_of(masks: Sequence[str], size: int) -> tuple[str, ...]:
    """The last masks of an answer, ``START`` before the first."""
    return tuple([START, *masks][-size:])


@dataclass
class KindTable:
    """Places of a kind: ``place_MX`` in order, NONE behind the last; ``before_MU`` how many stand before a place."""

    is_MU: Bools
    place_MX: Ints
    before_MU: Ints
    looks_ahead: bool  # whether the unit behind must be known too

    @classmethod
    def of(cls, traces: Traces, kind: Kind) -> KindTable:
        is_MU: Bools = traces.is_of(kind.own)
        if kind.before is not None:
            preceded_MU = np.zeros_like(is_MU)
            preceded_MU[:, 1:] = traces.is_of(kind.before)[:, :-1]
            is_MU = is_MU & preceded_MU
        if kind.after is not None:
            after_MU = np.zeros_like(is_MU)
            after_MU[:, :-1] = traces.is_of(kind.after)[:, 1:]
            is_MU = is_MU & after_MU
        if kind.word == "first":
            is_MU = is_MU & ~traces.touches_MU
        elif kind.word == "last":
            is_MU = is_MU & ~np.pad(traces.touches_MU[:, 1:], ((0, 0), (0, 1)))
        count_M = is_MU.sum(1)
        place_MX = np.full((len(is_MU), int(count_M.max(initial=0)) + 1), NONE, dtype=np.int32)
        m_P, u_P = np.nonzero(is_MU)
        order_P = np.arange(len(m_P)) - np.repeat(np.cumsum(count_M) - count_M, count_M)
        place_MX[m_P, order_P] = u_P
        before_MU = np.zeros((is_MU.shape[0], is_MU.shape[1] + 1), dtype=np.int32)
        np.cumsum(is_MU, axis=1, out=before_MU[:, 1:])
        return cls(is_MU, place_MX, before_MU, kind.after is not None or kind.word == "last")


@dataclass
class KindTables:
    """The tables of several kinds in one, for searches of all of them at once. Letters: K kinds, X of a kind."""

    kinds: list[Kind]
    place_KMX: NDArray[np.int16]
    before_KMU: NDArray[np.int16]
    looks_ahead_K: Bools

    @classmethod
    def of(cls, traces: Traces, kinds: Sequence[Kind]) -> KindTables:
        """Tables of the kinds that stand somewhere; of kinds that stand at the same units the first."""
        unique: dict[tuple[bool, bytes], tuple[Kind, KindTable]] = {}
        for kind in kinds:
            table = traces.kind(kind)
            if table.is_MU.any():
                unique.setdefault((table.looks_ahead, np.packbits(table.is_MU).tobytes()), (kind, table))
        tables = [table for _, table in unique.values()]
        size = max((t.place_MX.shape[1] for t in tables), default=1)
        place_KMX = np.full((len(tables), len(traces.length_M), size), NONE, dtype=np.int16)
        for k, table in enumerate(tables):
            place_KMX[k, :, : table.place_MX.shape[1]] = table.place_MX
        before_KMU = np.array([t.before_MU for t in tables], dtype=np.int16).reshape(len(tables), *_shape(traces))
        ahead_K = np.array([t.looks_ahead for t in tables], dtype=bool)
        return cls([kind for kind, _ in unique.values()], place_KMX, before_KMU, ahead_K)


def _shape(traces: Traces) -> tuple[int, int]:
    return traces.name_MU.shape[0], traces.name_MU.shape[1] + 1


@dataclass
class Search:
    """Pointers over rows."""

    traces: Traces
    rows: Rows
    _limits: dict[bool, Ints] = field(default_factory=dict)
    _begins: tuple[KindTables, NDArray[np.intp], NDArray[np.intp]] | None = None

    def limit(self, looks_ahead: bool) -> Ints:
        """Places before it may be found: the unit behind must be written too where the kind asks for it."""
        if looks_ahead not in self._limits:
            self._limits[looks_ahead] = self.rows.here_N - (1 if looks_ahead else 0)
        return self._limits[looks_ahead]

    def move(self, place_N: Ints, by: int | Ints) -> Ints:
        """``Move``; several at once where ``place_N`` and ``by`` have more axes in front."""
        to_N = place_N + by
        return np.where((place_N >= 0) & (to_N >= 0) & (to_N <= self.rows.here_N), to_N, NONE).astype(np.int32)

    def count(self, kind: Kind, since_N: Ints) -> Ints:
        """``Count`` without its constant; NONE - 1 000 000 where ``since`` is no place."""
        table, m_N = self.traces.kind(kind), self.rows.trace_N
        limit_N = self.limit(table.looks_ahead)
        found_N = table.before_MU[m_N, limit_N] - table.before_MU[m_N, np.minimum(np.maximum(since_N, 0), limit_N)]
        return np.where(since_N >= 0, found_N, -1_000_000).astype(np.int32)

    def seek(self, from_N: Ints, step: int, kind: Kind, nth_N: Ints | int) -> Ints:
        """``Seek`` without keys."""
        table, m_N = self.traces.kind(kind), self.rows.trace_N
        limit_N = self.limit(table.looks_ahead)
        start_N = np.minimum(np.maximum(from_N, 0), limit_N)
        rank_N = table.before_MU[m_N, start_N]
        rank_N = rank_N + nth_N if step > 0 else rank_N - 1 - nth_N
        last = table.place_MX.shape[1] - 1
        good_N = (from_N >= 0) & (rank_N >= 0) & (rank_N < last) & (np.asarray(nth_N) >= 0)
        place_N = table.place_MX[m_N, np.where(good_N, rank_N, last)]
        return np.where(good_N & (place_N < limit_N), place_N, NONE).astype(np.int32)

    def seek_all(self, from_N: Ints, step: int, tables: KindTables, nth_N: Ints | int) -> Ints:
        """``seek`` for several kinds at once (K, N)."""
        place_KNX, before_KNU = self._offsets(tables)
        limit_KN = self.rows.here_N[None] - tables.looks_ahead_K[:, None]
        start_KN = np.minimum(np.maximum(from_N, 0)[None], limit_KN)
        rank_KN = tables.before_KMU.ravel().take(before_KNU + start_KN, mode="clip").astype(np.int32)
        rank_KN = rank_KN + nth_N if step > 0 else rank_KN - 1 - nth_N
        last = tables.place_KMX.shape[2] - 1
        good_KN = (rank_KN >= 0) & (rank_KN < last) & ((from_N >= 0) & (np.asarray(nth_N) >= 0))
        place_KN = tables.place_KMX.ravel().take(place_KNX + np.where(good_KN, rank_KN, last), mode="clip")
        return np.where(good_KN & (place_KN < limit_KN), place_KN, NONE).astype(np.int32)

    def _offsets(self, tables: KindTables) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Where each row begins in the two tables of each kind, as flat arrays (K, N)."""
        if self._begins is None or self._begins[0] is not tables:
            row_KN = np.arange(len(tables.kinds))[:, None] * len(self.traces.length_M) + self.rows.trace_N
            row_KN = row_KN.astype(np.intp)
            self._begins = tables, row_KN * tables.place_KMX.shape[2], row_KN * tables.before_KMU.shape[2]
        return self._begins[1:]

    @cached_property
    def names_NU(self) -> Ints:
        """The units of each row's trace."""
        return self.traces.name_MU[self.rows.trace_N]

    def equal_to(self, place_N: Ints) -> Found:
        """The units written so far that hold what a place of each row holds, without the place itself."""
        key_N = self.traces.at(self.rows, place_N)
        fit_NU = self.names_NU == np.where(key_N >= 0, key_N, -9)[:, None]
        row_P, place_P = np.nonzero(fit_NU)
        seen_P = (place_P < self.rows.here_N[row_P]) & (place_P != place_N[row_P])
        return Found(row_P[seen_P], place_P[seen_P])

    def of_kind(self, found: Found, kind: Kind) -> Found:
        """Those of a kind."""
        table = self.traces.kind(kind)
        is_P = table.is_MU[self.rows.trace_N[found.row_P], found.place_P]
        if table.looks_ahead:
            is_P &= found.place_P < self.rows.here_N[found.row_P] - 1
        return Found(found.row_P[is_P], found.place_P[is_P])

    def beside(self, found: Found, offset: int, place_N: Ints) -> Found:
        """Those of which the unit ``offset`` further on holds what a place of the row holds."""
        key_N = self.traces.at(self.rows, place_N)
        at_P = found.place_P + offset
        inside_P = (at_P >= 0) & (at_P < self.rows.here_N[found.row_P]) & (at_P != place_N[found.row_P])
        name_P = self.traces.name_MU[self.rows.trace_N[found.row_P], np.where(inside_P, at_P, 0)]
        is_P = inside_P & (key_N[found.row_P] >= 0) & (name_P == key_N[found.row_P])
        return Found(found.row_P[is_P], found.place_P[is_P])

    def every(self, kind: Kind) -> Found:
        """The units of a kind written so far."""
        table = self.traces.kind(kind)
        place_NX = table.place_MX[self.rows.trace_N]
        row_P, x_P = np.nonzero((place_NX >= 0) & (place_NX < self.limit(table.looks_ahead)[:, None]))
        return Found(row_P, place_NX[row_P, x_P].astype(np.intp))

    def nearest(self, found: Found, from_N: Ints, step: int, nth_N: Ints | int = 0) -> Ints:
        """The n-th at a place or behind it, or before it."""
        size = self.traces.name_MU.shape[1] + 1
        flat_P = found.row_P * size + found.place_P
        n_N = np.arange(len(from_N))
        index_N = np.searchsorted(flat_P, n_N * size + np.maximum(from_N, 0))
        index_N = index_N + nth_N if step > 0 else index_N - 1 - nth_N
        inside_N = (index_N >= 0) & (index_N < len(flat_P)) & (from_N >= 0) & (np.asarray(nth_N) >= 0)
        at_N = np.where(inside_N, index_N, 0)
        if not len(flat_P):
            return np.full(len(from_N), NONE, dtype=np.int32)
        return np.where(inside_N & (found.row_P[at_N] == n_N), found.place_P[at_N], NONE).astype(np.int32)

    def match(self, kind: Kind, keys: Sequence[tuple[int, Ints]]) -> Found:
        """The units of a kind that hold what the keys hold. The first key's offset is 0."""
        assert keys[0][0] == 0
        found = self.of_kind(self.equal_to(keys[0][1]), kind)
        for offset, place_N in keys[1:]:
            found = self.beside(found, offset, place_N)
        return found


@dataclass
class Found:
    """Units by row and place, in order. Letter: P of them."""

    row_P: NDArray[np.intp]
    place_P: NDArray[np.intp]

    def take(self, chosen: slice | NDArray[np.intp] | Bools) -> Found:
        """Some of them."""
        return Found(self.row_P[chosen], self.place_P[chosen])
