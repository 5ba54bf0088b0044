"""The machine that runs a program: it reads the units so far and says what comes next.

It is a function of the text alone, but for where earlier steps looked (``Back``), which it keeps itself; so it can
follow a text that somebody else wrote, as a student's reader does, and go on from any point.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, takewhile
from typing import NamedTuple

from m2kt.probes import MASK

from ._pointers import (
    Answer,
    Back,
    Count,
    Decision,
    Equal,
    Here,
    It,
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
from ._tape import MAX_WORK, Place, Standing, Stuck, Tape, plain, standing_of


class Action(NamedTuple):
    """What a decision came to: the leaf (numbered within its decision), and where its pointers stand."""

    leaf: Leaf
    number: int
    places: tuple[int, ...]


Find = Callable[[Tape], Place]
Ask = Callable[[Tape], Value]
Decide = Callable[[Tape], Action]
Keys = Sequence[tuple[int, Find]]
Conditions = Sequence[Callable[[Tape], bool]]


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
    base, step, standing, nth = compile_pointer(seek.of), seek.step, standing_of(seek.kind), compile_count(seek.nth)
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
    index, n_places, n_names = bisect_left(places, place) - (step < 0), len(places), len(names)
    while 0 <= index < n_places:  # the innermost loop of all look-ups
        tape.work += 1
        if tape.work > MAX_WORK:
            raise Stuck("length", f"searches past {MAX_WORK}")
        x = places[index]
        index += step
        if x in taken:
            continue
        for offset, name in wanted:
            at = x + offset
            if not 0 <= at < n_names or names[at] != name:
                break
        else:
            if not conditions or _all_hold(tape, x, conditions):
                yield x


def _compile_ranked(seek: Seek, rank: Ranking, keys: Keys, conditions: Conditions) -> Find:
    base, step, standing, nth = compile_pointer(seek.of), seek.step, standing_of(seek.kind), compile_count(seek.nth)
    until, offset, before = compile_pointer(rank.until), rank.offset, frozenset(rank.before)

    def find(tape: Tape) -> Place:
        place, end, n = base(tape), until(tape), nth(tape)
        if place is None or end is None or n is None or n < 0:
            return None
        every = _fitting(tape, standing(tape), keys, conditions, place, step)
        found = list(takewhile(lambda x: x < end if step > 0 else x > end, every))
        names = [_unit(tape, x + offset) if x + offset >= 0 else None for x in found]
        tape.work += len(found) ** 2
        if tape.work > MAX_WORK:
            raise Stuck("length", f"searches past {MAX_WORK}")
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


def _all_hold(tape: Tape, x: int, conditions: Conditions) -> bool:
    """Whether all conditions hold of a unit."""
    outer, tape.it = tape.it, x
    try:
        return all(condition(tape) for condition in conditions)
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
    standing = standing_of(count.count)
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


def compile_decision(decision: Decision, symbols: Sequence[str] = ()) -> Decide:
    """A function from the tape to what is to be done; raises ``Stuck``.

    Args:
        symbols: texts of symbols, for messages.
    """
    return _compile(decision, 0, symbols)[0]


def _compile(decision: Decision, first: int, symbols: Sequence[str]) -> tuple[Decide, int]:
    """The compiled decision, and the number of the leaf behind its last one."""
    if not isinstance(decision, Test):
        return _compile_leaf(decision, first), first + 1
    ask, branches = compile_question(decision.ask), {}
    for case in decision.cases:
        branch, first = _compile(case.then, first, symbols)
        branches.update({(type(value), _plain_value(value)): branch for value in case.values})
    otherwise = None
    if decision.otherwise is not None:
        otherwise, first = _compile(decision.otherwise, first, symbols)

    def test(tape: Tape) -> Action:
        value = ask(tape)
        branch = branches.get((type(value), value), otherwise)
        if branch is None:
            if isinstance(value, int) and decision.ask.ask == "unit" and value < len(symbols):
                raise Stuck("branch", f"no case for {symbols[value]!r}")
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


def _plain_value(value: Value) -> Value:
    return plain(value) if isinstance(value, str) else value
