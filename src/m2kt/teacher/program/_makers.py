"""How candidate pointers are written: most are never, so a function stands for each."""

from __future__ import annotations

from collections.abc import Callable

from m2kt.packet import Back, Count, Kind, Move, Pointer, Same, Seek
from m2kt.teacher.program._candidates import Counter, Make


def kind_cost(kind: Kind) -> float:
    around = (kind.before is not None) + (kind.after is not None) + (kind.word is not None)
    return 0.4 + 2.0 * isinstance(kind.own, int | tuple) + 0.6 * around


def make_move(base: Make, by: int) -> Make:
    return base if by == 0 else lambda: Move(of=base(), by=by)


def make_back(state: str | None, argument: int) -> Make:
    return lambda: Back(state=state, argument=argument)


def make_refounded(known: Seek, base: Make, step: int) -> Make:
    """The same search from elsewhere."""
    return lambda: known.model_copy(update={"of": base(), "step": step})


def make_seek(base: Make, step: int, kind: Kind, nth: int) -> Make:
    return lambda: Seek(of=base(), step=1 if step > 0 else -1, kind=kind, nth=Count(plus=nth))


def make_seek_same(base: Make, step: int, kind: Kind, keys: list[tuple[int, Make]]) -> Make:
    def make() -> Pointer:
        same = [Same(offset=offset, as_=key()) for offset, key in keys]
        return Seek(of=base(), step=1 if step > 0 else -1, kind=kind, same=same)

    return make


def make_seek_nth(base: Make, step: int, nth: int) -> Callable[[Kind], Make]:
    return lambda kind: make_seek(base, step, kind, nth)


def make_seek_counted(base: Make, step: int, counter: Counter, plus: int) -> Callable[[Kind], Make]:
    return lambda kind: lambda: Seek(of=base(), step=1 if step > 0 else -1, kind=kind, nth=counter.count(plus))
