"""Pointers, tests and leaves of a program in words."""

from __future__ import annotations

from collections.abc import Sequence

from m2kt.packet import (
    Answer,
    Back,
    Count,
    Equal,
    Here,
    It,
    Kind,
    Leaf,
    Mask,
    Move,
    Order,
    Pointer,
    Program,
    Question,
    Relation,
    Same,
    Seek,
    Start,
    Tally,
    Value,
    Where,
    WriteCopy,
    WriteLiteral,
)
from m2kt.probes import MASK
from m2kt.render._text import shown


def mask_text(mask: str, program: Program) -> str:
    """A mask for people, without its leading space: ``□`` is a symbol, ``□1`` one of class 1 if there are several."""
    if mask == "":
        return "start"
    head, symbol, number = mask.rpartition(MASK)
    if not symbol:
        return shown(mask.removeprefix(" ")) if mask.strip() else shown(mask)
    return shown(head.strip() + MASK + ("" if len(set(program.classes)) == 1 else number))


def state_text(after: Sequence[str], program: Program) -> str:
    """The masks behind which a state stands."""
    return " ".join(mask_text(mask, program) for mask in after)


def pointer_text(pointer: Pointer, program: Program) -> str:
    """Where a pointer stands."""
    match pointer:
        case Start():
            return "the question's start"
        case Answer():
            return "the answer's start"
        case Here():
            return "here"
        case It():
            return "it"
        case Back(state=state, argument=argument):
            who = "the last step" if state is None else f"[{state_text(state.split('|'), program)}]"
            return f"where {who} looked" + ("" if argument == 0 else f" for argument {argument + 1}")
        case Move(of=Start(), by=by) if by > 0:
            return f"unit {by}"
        case Move(of=Here(), by=-1):
            return "the unit just written"
        case Move(of=Here(), by=by) if by < 0:
            return f"{-by} units back"
        case Move(of=of, by=by):
            return f"{_beside_text(by)} {pointer_text(of, program)}"
        case Seek():
            return _seek_text(pointer, program)


def _seek_text(seek: Seek, program: Program) -> str:
    kind, way = _kind_text(seek.kind, program), _way_text(seek, program)
    if seek.rank is not None:
        nth = "first" if seek.nth == Count() else f"number {_count_text(seek.nth, program)}"
        text = f"the {nth} by rank of the {kind} {way} up to {pointer_text(seek.rank.until, program)}"
        text += "" if seek.rank.offset == 0 else f", ranked by the unit {_beside_text(seek.rank.offset)} it"
    elif seek.nth == Count():
        text = f"the {'first' if seek.step > 0 else 'last'} {kind} {way}"
    else:
        text = f"{kind} number {_count_text(seek.nth, program)} {way}"
    keys = [_same_text(same, program) for same in seek.same]
    text += f" that has {' and '.join(keys)}" if keys else ""
    conditions = [_where_text(where, program) for where in seek.where]
    return text + (f" where {' and '.join(conditions)}" if conditions else "")


def _where_text(where: Where, program: Program) -> str:
    """What a condition asks, and what it must find."""
    value = "" if where.finds is None else values_text(where.ask, [where.finds], program)
    return f"‘{question_text(where.ask, program)}’ {'finds' if where.holds else 'does not find'} {value or 'nothing'}"


def _beside_text(by: int) -> str:
    return f"{abs(by)} {'behind' if by > 0 else 'before'}"


def _way_text(seek: Seek, program: Program) -> str:
    ways = {("start", 1): "from the question's start", ("answer", 1): "of the answer"}
    ways |= {("answer", -1): "back from the question's end", ("here", -1): "back from here"}
    short = ways.get((seek.of.at, seek.step))
    return short or f"{'from' if seek.step > 0 else 'back from'} {pointer_text(seek.of, program)}"


def _same_text(same: Same, program: Program) -> str:
    key = f"the same as {pointer_text(same.as_, program)}"
    return key if same.offset == 0 else f"{key} {_beside_text(same.offset)} it"


def _count_text(count: Count, program: Program) -> str:
    """Counted from 1, as people do."""
    if count.count is None:
        return str(count.plus + 1)
    since = "in the answer" if count.since is None else f"since {pointer_text(count.since, program)}"
    return f"{count.plus + 1} + as many as {_kind_text(count.count, program)} {since}"


def _kind_text(kind: Kind, program: Program) -> str:
    def name(wanted: str | int) -> str:
        return shown(program.symbols[wanted]) if isinstance(wanted, int) else mask_text(wanted, program)

    several = kind.own if isinstance(kind.own, tuple) else () if kind.own is None else (kind.own,)
    text = " or ".join(map(name, several)) or "unit"
    text += "" if kind.before is None else f" behind {name(kind.before)}"
    text += "" if kind.after is None else f" before {name(kind.after)}"
    return text if kind.word is None else f"{text} that is the {kind.word} of a word"


def question_text(question: Question, program: Program) -> str:
    """What a test asks."""
    if isinstance(question, Relation):
        return f"how do {' and '.join(pointer_text(p, program) for p in question.of)} stand to each other?"
    if isinstance(question, Tally):
        since = pointer_text(question.since, program)
        return f"how many {_kind_text(question.count, program)} stand since {since}?"
    at = pointer_text(question.at, program)
    match question:
        case Mask():
            return f"what kind of unit is {at}?"
        case Equal(as_=other):
            return f"is {at} the same as {pointer_text(other, program)}?"
        case Order(as_=other):
            return f"is {at} before {pointer_text(other, program)}?"
        case _:
            return f"what is {at}?"


def values_text(question: Question, values: Sequence[Value], program: Program) -> str:
    """What a test may find."""
    return " ".join(_value_text(question, value, program) for value in values)


def _value_text(question: Question, value: Value, program: Program) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(question, Relation):
        like = next(row for row, found in zip(question.rows, question.finds, strict=True) if found == value)
        return f"as {' and '.join(shown(program.symbols[symbol]) for symbol in like)}"
    if isinstance(question, Order):
        return {-1: "before", 0: "there", 1: "behind"}[int(value)]
    if isinstance(question, Tally):
        return str(value)
    return shown(program.symbols[value]) if isinstance(value, int) else mask_text(value, program)


def leaf_text(leaf: Leaf, program: Program) -> str:
    """What a leaf writes, and where it looks."""
    match leaf:
        case WriteLiteral():
            return f"write {shown(leaf.text)}"
        case WriteCopy():
            return f"copy {pointer_text(leaf.source, program)}"
        case _:
            sources = ", ".join(pointer_text(source, program) for source in leaf.sources)
            return f"{program.rules[leaf.rule].name}({sources})"
