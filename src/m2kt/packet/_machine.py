"""The machine that runs a program: it reads the units so far and says what comes next.

It is a function of the text alone, but for where earlier steps looked (``Back``), which it keeps itself; so it can
follow a text that somebody else wrote, as a student's reader does, and go on from any point.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import NamedTuple

from m2kt.probes import MASK, Unit

from ._pointers import (
    Answer,
    Back,
    Count,
    Decision,
    Equal,
    Here,
    It,
    Kind,
    Leaf,
    Mask,
    Move,
    Order,
    Pointer,
    Question,
    Ranking,
    Relation,
    Seek,
    Start,
    Tally,
    Test,
    Value,
    Where,
    WriteCopy,
    WriteLiteral,
    WriteRule,
)
from ._trace import FailureKind

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


class Action(NamedTuple):
    """What a decision came to: the leaf (numbered within its decision), and where its pointers stand."""

    leaf: Leaf
    number: int
    places: tuple[int, ...]


class Stuck(Exception):
    """The program does not say what comes next."""

    def __init__(self, what: FailureKind, detail: str) -> None:
        super().__init__(detail)
        self.what, self.detail = what, detail


Find = Callable[[Tape], Place]
Ask = Callable[[Tape], Value]
Decide = Callable[[Tape], Action]
MAX_WORK = 1 << 22  # units that the searches of a rollout may go past: a second or two, whatever a packet says
Keys = Sequence[tuple[int, Find]]
Conditions = Sequence[Callable[[Tape], bool]]


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


def _standing(kind: Kind) -> Callable[[Tape], Standing]:
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


def compile_pointer(pointer: Pointer) -> Find:
    """A function from the tape to the pointer's place; None where there is no such unit.

    ``Here`` and the unit behind the last one are places without a unit.
    """
    match pointer:
        case Start():
            return lambda tape: 0
        case Answer():
            return lambda tape: tape.n_prompt
        case Here():
            return lambda tape: len(tape.names)
        case It():
            return lambda tape: tape.it
        case Back(state=state, argument=argument):

            def back(tape: Tape) -> Place:
                places = tape.looked.get(state)
                return places[argument] if places is not None and argument < len(places) else None

            return back
        case Move(of=of, by=by):
            base = compile_pointer(of)

            def move(tape: Tape) -> Place:
                place = base(tape)
                return place + by if place is not None and 0 <= place + by <= len(tape.names) else None

            return move
        case Seek():
            return _compile_seek(pointer)


def _compile_seek(seek: Seek) -> Find:
    base, step, standing, nth = compile_pointer(seek.of), seek.step, _standing(seek.kind), compile_count(seek.nth)
    keys = [(same.offset, compile_pointer(same.as_)) for same in seek.same]
    conditions = [_compile_where(where) for where in seek.where]
    if seek.rank is not None:
        return _compile_ranked(seek, seek.rank, keys, conditions)

    def find(tape: Tape) -> Place:
        place, n = base(tape), nth(tape)
        if place is None or n is None or n < 0:
            return None
        if keys or conditions:
            return _look_up(tape, standing(tape), keys, conditions, place, step, n)
        places = standing(tape).places
        index = bisect_left(places, place)
        index = index + n if step > 0 else index - 1 - n
        return places[index] if 0 <= index < len(places) else None

    return find


def _look_up(
    tape: Tape,
    standing: Standing,
    keys: Keys,
    conditions: Conditions,
    place: int,
    step: int,
    n: int,
) -> Place:
    """The n-th unit from a place that holds what the keys hold, and of which the conditions hold."""
    return next(islice(_fitting(tape, standing, keys, conditions, place, step), n, None), None)


def _fitting(
    tape: Tape, standing: Standing, keys: Keys, conditions: Conditions, place: int, step: int
) -> Iterator[int]:
    """The units from a place that hold what the keys hold, and of which the conditions hold."""
    names = tape.names
    wanted: list[tuple[int, str | int]] = []
    taken: list[int] = []
    places = standing.places
    for offset, key in keys:
        at = key(tape)
        if at is None or at >= len(names):
            return
        if offset == 0:
            places = standing.of_name.get(names[at], [])
        wanted.append((offset, names[at]))
        taken.append(at - offset)
    index = bisect_left(places, place) - (step < 0)
    while 0 <= index < len(places):
        _spend(tape, 1)
        x = places[index]
        holds = x not in taken and all(0 <= x + o < len(names) and names[x + o] == name for o, name in wanted)
        if holds and all(_holds_of(tape, x, condition) for condition in conditions):
            yield x
        index += step


def _compile_ranked(seek: Seek, rank: Ranking, keys: Keys, conditions: Conditions) -> Find:
    base, step, standing, nth = compile_pointer(seek.of), seek.step, _standing(seek.kind), compile_count(seek.nth)
    until, offset, before = compile_pointer(rank.until), rank.offset, frozenset(rank.before)

    def find(tape: Tape) -> Place:
        place, end, n = base(tape), until(tape), nth(tape)
        if place is None or end is None or n is None or n < 0:
            return None
        every = _fitting(tape, standing(tape), keys, conditions, place, step)
        found = list(takewhile(lambda x: x < end if step > 0 else x > end, every))
        names = [_unit(tape, x + offset) if x + offset >= 0 else None for x in found]
        _spend(tape, len(found) ** 2)
        for i, x in enumerate(found):
            ahead = [_comes_first(names[j], names[i], before, at=j < i) for j in range(len(found)) if j != i]
            if ahead.count(True) > n:
                continue
            if None in ahead:
                raise Stuck("row", "a ranking does not say which of two units comes first")
            if ahead.count(True) == n:
                return x
        return None

    return find


def _comes_first(
    a: str | int | None, b: str | int | None, before: frozenset[tuple[int, int]], *, at: bool
) -> bool | None:
    """Whether one unit is ranked before another; equal ones by ``at``. None where nothing says."""
    if a == b:
        return at
    return (a, b) in before if (a, b) in before or (b, a) in before else None


def _spend(tape: Tape, work: int) -> None:
    """Count units that a search goes past: conditions within conditions multiply. Raises ``Stuck`` past the limit."""
    tape.work += work
    if tape.work > MAX_WORK:
        raise Stuck("length", f"searches past {MAX_WORK}")


def _holds_of(tape: Tape, x: int, condition: Callable[[Tape], bool]) -> bool:
    """Whether a condition holds of a unit."""
    outer, tape.it = tape.it, x
    try:
        return condition(tape)
    finally:
        tape.it = outer


def _compile_where(where: Where) -> Callable[[Tape], bool]:
    ask, holds, wanted = compile_question(where.ask), where.holds, _plain_value(where.finds)
    arguments = [compile_pointer(p) for p in where.ask.of] if isinstance(where.ask, Relation) else []

    def met(tape: Tape) -> bool:
        value = ask(tape)
        if value is None and arguments and all(type(_unit(tape, find(tape))) is int for find in arguments):
            raise Stuck("row", "a search's relation has no row for a unit")
        return ((type(value), value) == (type(wanted), wanted)) == holds

    return met


def compile_count(count: Count) -> Find:
    """A function from the tape to a number."""
    plus = count.plus
    if count.count is None:
        return lambda tape: plus
    standing = _standing(count.count)
    since = compile_pointer(count.since or Answer())

    def number(tape: Tape) -> Place:
        first = since(tape)
        if first is None:
            return None
        places = standing(tape).places
        return plus + len(places) - bisect_left(places, first)

    return number


def _unit(tape: Tape, place: Place) -> str | int | None:
    return tape.names[place] if place is not None and place < len(tape.names) else None


def compile_question(question: Question) -> Ask:
    if isinstance(question, Relation):
        return _compile_relation(question)
    if isinstance(question, Tally):
        return compile_count(Count(count=question.count, since=question.since))
    find = compile_pointer(question.at)
    match question:
        case Mask():

            def mask(tape: Tape) -> Value:
                name = _unit(tape, find(tape))
                return f"{MASK}{tape.class_S[name]}" if type(name) is int else name

            return mask
        case Equal(as_=other):
            find_other = compile_pointer(other)

            def equal(tape: Tape) -> Value:
                name = _unit(tape, find(tape))
                return name is not None and name == _unit(tape, find_other(tape))

            return equal
        case Order(as_=other):
            find_other = compile_pointer(other)

            def order(tape: Tape) -> Value:
                place, of = find(tape), find_other(tape)
                return None if place is None or of is None else (place > of) - (place < of)

            return order
        case _:
            return lambda tape: _unit(tape, find(tape))


def _compile_relation(relation: Relation) -> Ask:
    finds = [compile_pointer(pointer) for pointer in relation.of]
    table = dict(zip(relation.rows, relation.finds, strict=True))

    def related(tape: Tape) -> Value:
        names = tuple(_unit(tape, find(tape)) for find in finds)
        return table.get(names)  # type: ignore[arg-type]  # structure is in no row

    return related


def compile_decision(decision: Decision) -> Decide:
    """A function from the tape to what is to be done; raises ``Stuck``."""
    return _compile(decision, 0)[0]


def _compile(decision: Decision, first: int) -> tuple[Decide, int]:
    """The compiled decision, and the number of the leaf behind its last one."""
    if not isinstance(decision, Test):
        return _compile_leaf(decision, first), first + 1
    ask, branches = compile_question(decision.ask), {}
    for case in decision.cases:
        branch, first = _compile(case.then, first)
        branches.update({(type(value), _plain_value(value)): branch for value in case.values})
    otherwise = None
    if decision.otherwise is not None:
        otherwise, first = _compile(decision.otherwise, first)

    def test(tape: Tape) -> Action:
        value = ask(tape)
        branch = branches.get((type(value), value), otherwise)
        if branch is None:
            raise Stuck("branch", f"no case for {value!r}")
        return branch(tape)

    return test, first


def _compile_leaf(leaf: Leaf, number: int) -> Decide:
    match leaf:
        case WriteLiteral():
            action = Action(leaf, number, ())
            return lambda tape: action
        case WriteCopy():
            sources: Sequence[Pointer] = [leaf.source]
        case WriteRule():
            sources = leaf.sources
    finds = [compile_pointer(source) for source in sources]

    def act(tape: Tape) -> Action:
        places: list[int] = []
        for find in finds:
            place = find(tape)
            if place is None or place >= len(tape.names):
                raise Stuck("node", f"pointer {len(places)} stands at no unit")
            places.append(place)
        return Action(leaf, number, tuple(places))

    return act


def name_of(unit: Unit, ids: dict[str, int]) -> str | int:
    """A unit as the machine reads it: symbol id, or the text of structure without its leading space."""
    return ids.get(unit.symbol, plain(unit.text)) if unit.symbol is not None else plain(unit.text)


def plain(text: str) -> str:
    """Structure without its leading space: the first word of a text has none."""
    return text.lstrip(" ") or text


def _plain_value(value: Value) -> Value:
    return plain(value) if isinstance(value, str) else value
