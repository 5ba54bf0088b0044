"""The store of a state's candidate pointers: of those that stand at the same place on every row, the cheapest.

Letters: N rows, C candidates, X of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import Answer, Count, Kind, Pointer, Tally
from m2kt.teacher.program._traces import Ints

LEAST_FOUND = 0.04  # share of rows on which a candidate must find a unit
Row = TypeVar("Row", bound=np.generic)
Make = Callable[[], Pointer]
"""Writes the pointer; most candidates are never written."""


@dataclass(frozen=True)
class Batch:
    """Candidates that are made together."""

    make: Callable[[int], Make]
    cost_X: Sequence[float]
    place_XN: Ints

    @classmethod
    def one(cls, make: Make, cost: float, place_N: Ints) -> Batch:
        """A batch of one."""
        return cls(lambda x: make, [cost], place_N[None])


@dataclass(frozen=True)
class Counter:
    """How many units of a kind stand since a mark, by row."""

    kind: Kind
    since: Make
    cost: float
    number_N: Ints

    def count(self, plus: int) -> Count:
        """The counter as a search uses it."""
        return Count(plus=plus, count=self.kind, since=None if self.since is Answer else self.since())

    def tally(self) -> Tally:
        """The counter as a question."""
        return Tally(count=self.kind, since=self.since())


class Column:
    """A candidate: how it is written, what it costs, and where it stands on each row."""

    __slots__ = ("_store", "index")

    def __init__(self, store: Candidates, index: int) -> None:
        self._store, self.index = store, index

    @property
    def cost(self) -> float:
        """What it costs."""
        return self._store.costs[self.index]

    @property
    def make(self) -> Make:
        """Writes the pointer."""
        make, x = self._store.makers[self.index]
        return make(x)

    @property
    def pointer(self) -> Pointer:
        """The pointer itself."""
        return self.make()

    @property
    def place_N(self) -> Ints:
        """Where it stands."""
        place_N: Ints = self._store.place_CN[self.index]
        return place_N


class Candidates:
    """All candidates of one state, in the order in which they were found."""

    def __init__(self, n_rows: int) -> None:
        self.costs: list[float] = []
        self.makers: list[tuple[Callable[[int], Make], int]] = []
        self._index: dict[int, int] = {}
        self._blocks: list[Ints] = []
        self.place_CN: Ints = np.empty((0, n_rows), dtype=np.int32)
        """Where each stands on each row, up to the last stage that is complete."""
        self._least = LEAST_FOUND * n_rows
        self._weight_N = np.random.default_rng(0).integers(-(2**62), 2**62, n_rows)

    def __len__(self) -> int:
        return len(self.costs)

    def complete(self) -> int:
        """End a stage; the number of candidates so far."""
        self.place_CN = np.concatenate([self.place_CN, *self._blocks])
        self._blocks = []
        return len(self)

    def add(self, batch: Batch) -> None:
        """Keep those that find a unit on enough rows."""
        kept = np.flatnonzero(np.count_nonzero(batch.place_XN >= 0, axis=1) >= self._least)
        if not len(kept):
            return
        place_XN, new = batch.place_XN[kept], []
        for i, (x, key) in enumerate(zip(kept.tolist(), self._keys(place_XN), strict=True)):
            cost, index = float(batch.cost_X[x]), self._index.get(key)
            if index is None:
                self._index[key] = len(self.costs)
                self.costs.append(cost)
                self.makers.append((batch.make, x))
                new.append(i)
            elif cost < self.costs[index]:
                self.costs[index], self.makers[index] = cost, (batch.make, x)
        if new:
            self._blocks.append(place_XN[new])

    def lacks(self, place_N: Ints) -> bool:
        """Whether these places are on enough rows, and no candidate's yet."""
        return bool(np.count_nonzero(place_N >= 0) >= self._least) and self._keys(place_N[None])[0] not in self._index

    def _keys(self, place_XN: Ints) -> list[int]:
        """A number for each, the same for equal places."""
        return (place_XN.astype(np.int64) @ self._weight_N).tolist()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class First(Sequence[Column]):
    """The first candidates of a store."""

    store: Candidates
    n: int

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Column:  # type: ignore[override]  # nobody takes slices
        if not 0 <= index < self.n:
            raise IndexError(index)
        return Column(self.store, index)


def cheapest_first(chosen: NDArray[np.intp], cost_C: NDArray[np.float64]) -> list[int]:
    """Indices by cost; equal ones in their order."""
    return chosen[np.argsort(cost_C[chosen], kind="stable")].tolist()  # type: ignore[no-any-return]


def distinct(
    chosen: NDArray[np.intp], cost_C: NDArray[np.float64], row_CN: NDArray[np.generic], most: int | None = None
) -> list[int]:
    """Indices by cost, of those with equal rows the cheapest alone; no more than ``most``."""
    return [c for c, _ in unlike(((c, row_CN[c]) for c in cheapest_first(chosen, cost_C)), most)]


def unlike(rows: Iterable[tuple[int, NDArray[Row]]], most: int | None = None) -> Iterator[tuple[int, NDArray[Row]]]:
    """Rows with their indices, without those equal to an earlier one; no more than ``most``, and none read behind."""
    seen: set[bytes] = set()
    for c, row_N in rows:
        key = row_N.tobytes()
        if key in seen:
            continue
        seen.add(key)
        yield c, row_N
        if len(seen) == most:
            return
