"""The kinds of units that searches may stop at: structure, symbols by what stands around them, single symbols, sets.

Letters: M traces, U units, K kinds.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import Kind
from m2kt.probes import MASK
from m2kt.teacher.program._candidates import LEAST_FOUND
from m2kt.teacher.program._traces import NONE, Ints, KindTables, Traces

MAX_KINDS = 40  # of structure, and as many of symbols
MAX_SET_CONTEXTS = 8  # surroundings in which one of several symbols is searched for
MAX_SHIFT = 6  # units within which one piece of structure stands for another
MAX_NAMED, MAX_NAMED_CLASS = 12, 4  # single symbols that are searched for, of classes so small


def kinds_of(traces: Traces) -> Kinds:
    """The kinds of some traces, found once."""
    kinds = traces.derived.get("kinds")
    if not isinstance(kinds, Kinds):
        kinds = traces.derived["kinds"] = Kinds(traces)
    return kinds


class Kinds:
    """All kinds of some traces."""

    def __init__(self, traces: Traces) -> None:
        self.traces = traces

    @cached_property
    def tables(self) -> KindTables:
        """Tables of all kinds."""
        return KindTables.of(self.traces, [*self.symbols, *self.structures])

    @cached_property
    def symbols(self) -> list[Kind]:
        """Kinds of symbols by what stands around them, commonest first; then single symbols, and sets of them."""
        kinds = self._symbol_kinds()
        contexts = [k for k in kinds if k.own == MASK][: MAX_SET_CONTEXTS + 1]
        if self.traces.touches_MU.any():
            ends: tuple[Literal["first", "last"], ...] = ("first", "last")
            kinds[1:1] = [Kind(own=k.own, word=word) for word in ends for k in kinds if k.after is k.before is None]
        kinds += self.named
        kinds += [k.model_copy(update={"own": own}) for own in self.traces.written_sets for k in contexts]
        return KindTables.of(self.traces, kinds).kinds

    @cached_property
    def structures(self) -> list[Kind]:
        """Kinds of structure, without what always stands so far from an end of the prompt, or from other structure."""
        traces, name_MU = self.traces, self.traces.name_MU
        share: dict[int, float] = {}
        for number in range(traces.n_symbols, traces.n_symbols + len(traces.structure)):
            present = float((name_MU == number).any(1).mean())
            if present >= LEAST_FOUND:
                share[number] = present
        u_U = np.arange(name_MU.shape[1])
        is_symbol_MU = (name_MU >= 0) & (name_MU < traces.n_symbols)
        beside_MU = np.zeros_like(is_symbol_MU)
        beside_MU[:, 1:] |= is_symbol_MU[:, :-1]
        beside_MU[:, :-1] |= is_symbol_MU[:, 1:]
        kept: list[tuple[int, NDArray[np.bool_]]] = []
        ranked = sorted(share, key=lambda n: (-float(beside_MU[name_MU == n].mean()), -share[n]))
        for number in ranked:
            is_MU = name_MU == number
            if self._fixed(is_MU, u_U, traces.prompt_M):
                continue
            if any(_shifted(is_MU, other_MU) for _, other_MU in kept):
                continue
            kept.append((number, is_MU))
        return [Kind(own=traces.structure[n - traces.n_symbols]) for n, _ in kept[:MAX_KINDS]]

    def _fixed(self, is_MU: NDArray[np.bool_], u_U: NDArray[np.intp], prompt_M: Ints) -> bool:
        """Whether it stands once in every prompt, always so far from the prompt's start or end, and never elsewhere."""
        if not (is_MU.sum(1) == 1).all():
            return False
        place_M = is_MU.argmax(1)
        inside = (place_M < prompt_M).all()
        return bool(inside and (len(np.unique(place_M)) == 1 or len(np.unique(prompt_M - place_M)) == 1))

    @cached_property
    def classes(self) -> list[Kind]:
        """The classes of symbols, or any symbol where there is one class."""
        n_classes = int(self.traces.class_S.max(initial=0)) + 1
        return [Kind(own=f"{MASK}{c}") for c in range(n_classes)] if n_classes > 1 else [Kind(own=MASK)]

    @cached_property
    def named(self) -> list[Kind]:
        """Single symbols of small classes that answers hold."""
        traces = self.traces
        u_U = np.arange(traces.name_MU.shape[1])
        written = np.unique(traces.name_MU[u_U >= traces.prompt_M[:, None]])
        size_C = np.bincount(traces.class_S, minlength=1)
        symbols = [s for s in written.tolist() if 0 <= s < traces.n_symbols]
        small = [s for s in symbols if size_C[traces.class_S[s]] <= MAX_NAMED_CLASS]
        return [Kind(own=s) for s in small[:MAX_NAMED]]

    def _symbol_kinds(self) -> list[Kind]:
        traces = self.traces
        mask_MU = np.where(traces.name_MU >= traces.n_symbols, traces.name_MU, np.minimum(traces.name_MU, 0))
        is_symbol_MU = mask_MU == 0
        before_MU = np.pad(mask_MU, ((0, 0), (1, 0)), constant_values=NONE)[:, :-1]
        after_MU = np.pad(mask_MU, ((0, 0), (0, 1)), constant_values=NONE)[:, 1:]
        context: Counter[tuple[int, int]] = Counter()
        pairs = np.stack([before_MU[is_symbol_MU], after_MU[is_symbol_MU]], 1)
        unique, count = np.unique(pairs, axis=0, return_counts=True) if len(pairs) else (pairs, pairs[:, 0])
        for (a, b), n in zip(unique.tolist(), count.tolist(), strict=True):
            context[a, b] += n
        befores: Counter[int] = Counter()
        afters: Counter[int] = Counter()
        for (a, b), n in context.items():
            befores[a] += n
            afters[b] += n

        def mask(number: int) -> str | None:
            return MASK if number == 0 else traces.structure[number - traces.n_symbols] if number > 0 else None

        n_classes = int(traces.class_S.max(initial=0)) + 1
        kinds = [Kind(own=MASK)]
        if n_classes > 1:
            kinds += [Kind(own=f"{MASK}{c}") for c in range(n_classes)]
        kinds += [Kind(own=MASK, after=m) for n, _ in afters.most_common(MAX_KINDS // 2) if (m := mask(n))]
        kinds += [Kind(own=MASK, before=m) for n, _ in befores.most_common(MAX_KINDS // 2) if (m := mask(n))]
        return kinds


def _shifted(is_MU: NDArray[np.bool_], other_MU: NDArray[np.bool_]) -> bool:
    """Whether one always stands the same few units from the other."""
    if is_MU.sum() != other_MU.sum():
        return False
    for by in range(1, MAX_SHIFT + 1):
        if np.array_equal(is_MU[:, by:], other_MU[:, :-by]) or np.array_equal(is_MU[:, :-by], other_MU[:, by:]):
            return True
    return False
