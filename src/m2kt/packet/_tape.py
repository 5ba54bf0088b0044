"""The tape that a program reads: the units so far, and where units of each kind stand among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from m2kt.probes import MASK, Unit

from ._pointers import Kind
from ._trace import FailureKind

MAX_WORK = 1 << 22  # units that the searches of a rollout may go past: a second or two, whatever a packet says
Place = int | None
Wanted = tuple[str | int | tuple[int, ...] | None, ...]
"""Unit, unit before, unit behind, first or last of a word."""


@dataclass(slots=True)
class Tape:
    """The units so far, and where the steps that wrote them looked."""

    names: list[str | int] = field(default_factory=list)  # symbol id, or the text of structure
    n_prompt: int = 0
    class_S: Sequence[int] = ()  # the class of each symbol
    looked: dict[str | None, tuple[int, ...]] = field(default_factory=dict)  # by state; None: the last that looked
    work: int = 0  # units that look-ups went past so far
    kinds: dict[Wanted, Standing] = field(default_factory=dict)  # for texts that only grow
    touches: list[bool] = field(default_factory=list)  # whether a unit and the one before are symbols that touch
    it: int | None = None  # the unit that a search asks about

    def copy(self) -> Tape:
        """A tape that goes on by itself."""
        kinds = {key: standing.copy() for key, standing in self.kinds.items()}
        looked, touches = self.looked.copy(), self.touches.copy()
        return Tape(self.names.copy(), self.n_prompt, self.class_S, looked, self.work, kinds, touches)

    def append(self, name: str | int, lead: str) -> None:
        """One unit more.

        Args:
            lead: the leading space of a symbol.
        """
        symbols = type(name) is int and bool(self.names) and type(self.names[-1]) is int
        self.touches.append(symbols and not lead)
        self.names.append(name)


class Stuck(Exception):
    """The program does not say what comes next."""

    def __init__(self, what: FailureKind, detail: str) -> None:
        super().__init__(detail)
        self.what, self.detail = what, detail


def fits(name: str | int, wanted: str | int | tuple[int, ...] | None, class_S: Sequence[int]) -> bool:
    """Whether a unit is what is wanted: a symbol id, a mask, or None for any unit.

    The mask of symbols is ``MASK`` for any, or ``MASK`` and the number of a class.
    """
    if wanted is None or name == wanted:
        return True
    if type(wanted) is tuple:
        return name in wanted
    if type(wanted) is not str or type(name) is not int or wanted[0] != MASK:
        return False
    return len(wanted) == 1 or class_S[name] == int(wanted[1:])


@dataclass(slots=True)
class Standing:
    """Where units of a kind stand, in order, found once for each unit however often it is asked for."""

    places: list[int] = field(default_factory=list)
    of_name: dict[str | int, list[int]] = field(default_factory=dict)
    seen: int = 0  # units looked at

    def copy(self) -> Standing:
        """The same, independent of this one."""
        of_name = {name: places.copy() for name, places in self.of_name.items()}
        return Standing(self.places.copy(), of_name, self.seen)


def standing_of(kind: Kind) -> Callable[[Tape], Standing]:
    own, before, after = (plain(x) if isinstance(x, str) else x for x in (kind.own, kind.before, kind.after))
    word = kind.word
    key = (own, before, after, word)
    ahead = after is not None or word == "last"  # the unit behind must be known too

    def standing(tape: Tape) -> Standing:
        found = tape.kinds.get(key)
        if found is None:
            found = tape.kinds[key] = Standing()
        names, class_S = tape.names, tape.class_S
        end = len(names) - ahead
        tape.work += 1 + max(0, end - found.seen)
        for x in range(found.seen, end):
            if (
                fits(names[x], own, class_S)
                and (before is None or (x > 0 and fits(names[x - 1], before, class_S)))
                and (after is None or fits(names[x + 1], after, class_S))
                and (word is None or not tape.touches[x if word == "first" else x + 1])
            ):
                found.places.append(x)
                found.of_name.setdefault(names[x], []).append(x)
        found.seen = max(found.seen, end)
        return found

    return standing


def name_of(unit: Unit, ids: dict[str, int]) -> str | int:
    """A unit as the machine reads it: symbol id, or the text of structure without its leading space."""
    return ids.get(unit.symbol, plain(unit.text)) if unit.symbol is not None else plain(unit.text)


def plain(text: str) -> str:
    """Structure without its leading space: the first word of a text has none."""
    return text.lstrip(" ") or text
