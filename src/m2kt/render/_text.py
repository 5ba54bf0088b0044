"""Symbols, steps and rules as text."""

from __future__ import annotations

from dataclasses import dataclass

from m2kt.packet import (
    Answer,
    Back,
    Count,
    Equal,
    Here,
    Kind,
    Leaf,
    Mask,
    Move,
    Order,
    Pointer,
    Program,
    Question,
    RowDescription,
    RuleDescription,
    Seek,
    Start,
    Value,
    WriteCopy,
    WriteLiteral,
    WriteRule,
)

MAX_GRIDS = 6
MAX_ROWS = 60
LEGEND = (
    "Outputs: plain = travels as text; ~x = travels as a vector only, decoded as x by the packet's prototypes; · = no "
    "such row."
)


def shown(text: str) -> str:
    """Text as it is; quoted if it has outer spaces or characters that do not print."""
    return text if text.isprintable() and text == text.strip() and text else repr(text)


def pointer_text(pointer: Pointer, program: Program) -> str:
    """Where a pointer stands, in words."""
    match pointer:
        case Start():
            return "the first unit"
        case Answer():
            return "the answer's first unit"
        case Here():
            return "here"
        case Back(state=state, argument=argument):
            who = "the last step" if state is None else state_label(state)
            return f"where {who} looked" + ("" if argument == 0 else f", argument {argument + 1}")
        case Move(of=Start(), by=by) if by >= 0:
            return f"unit {by}"
        case Move(of=of, by=by):
            return f"{abs(by)} {'behind' if by > 0 else 'before'} {pointer_text(of, program)}"
        case Seek():
            return _seek_text(pointer, program)


def _seek_text(seek: Seek, program: Program) -> str:
    nth = "" if seek.nth == Count() else f" number {_count_text(seek.nth, program)}"
    way = "from" if seek.step > 0 else "back from"
    text = f"the {'next' if seek.step > 0 else 'last'} {_kind_text(seek.kind, program)}{nth} {way} "
    text += pointer_text(seek.of, program)
    for same in seek.same:
        side = "behind" if same.offset > 0 else "before"
        at = "that holds" if same.offset == 0 else f"with {abs(same.offset)} {side} it"
        text += f" {at} what stands at {pointer_text(same.as_, program)}"
    return text


def _count_text(count: Count, program: Program) -> str:
    if count.count is None:
        return str(count.plus)
    since = "the answer's start" if count.since is None else pointer_text(count.since, program)
    plus = f"{count.plus} + " if count.plus else ""
    return f"({plus}as many as {_kind_text(count.count, program)} since {since})"


def _kind_text(kind: Kind, program: Program) -> str:
    def name(wanted: str | int | None) -> str:
        if wanted is None:
            return "unit"
        return shown(program.symbols[wanted]) if isinstance(wanted, int) else shown(wanted)

    text = name(kind.own)
    text += "" if kind.before is None else f" behind {name(kind.before)}"
    return text + ("" if kind.after is None else f" before {name(kind.after)}")


def question_text(question: Question, program: Program) -> str:
    """What a test asks, in words."""
    at = pointer_text(question.at, program)
    match question:
        case Mask():
            return f"structure at {at}"
        case Equal(as_=other):
            return f"{at} holds the same as {pointer_text(other, program)}"
        case Order(as_=other):
            return f"{at} against {pointer_text(other, program)}"
        case _:
            return f"unit at {at}"


def value_text(question: Question, value: Value, program: Program) -> str:
    """What a test may find, in words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(question, Order):
        return {-1: "before", 0: "there", 1: "behind"}[int(value)]
    return shown(program.symbols[value]) if isinstance(value, int) else shown(value)


def leaf_text(leaf: Leaf, program: Program) -> str:
    """What a leaf writes, and where it looks, in a line."""
    match leaf:
        case WriteLiteral():
            return shown(leaf.text)
        case WriteCopy():
            return f"copy {pointer_text(leaf.source, program)}"
        case WriteRule():
            sources = "; ".join(pointer_text(source, program) for source in leaf.sources)
            return f"{program.rules[leaf.rule].name}({sources})"


def state_label(name: str) -> str:
    """A state's name for people: the masks behind which it stands."""
    return "the start" if name == "" else f"[{shown(name.removeprefix('|'))}]"


def output_text(row: RowDescription) -> str:
    """The output of a row, marked ``~`` where it travels as a vector only."""
    if row.output is not None:
        return shown(row.output)
    return "~" + shown(row.decoded) if row.decoded is not None else "~?"


@dataclass(frozen=True)
class Grid:
    """A rule over two of its arguments, the others fixed."""

    fixed: str
    """The fixed arguments, such as ``argument 3 = 0``; empty for two arguments."""
    corner: str
    """``1 \\ 2``: the argument of the rows, and that of the columns."""
    down: list[str]
    across: list[str]
    cells: dict[tuple[str, str], RowDescription]
    """Rows as :func:`m2kt.packet.describe` gives them, by the two arguments."""


def rule_title(rule: RuleDescription) -> str:
    """``r0: 2 arguments, 100 rows, used at 6 places``."""
    return f"{rule.name}: {rule.arity} arguments, {len(rule.rows)} rows, used at {rule.uses} places"


def rule_grids(rule: RuleDescription) -> list[Grid]:
    """Grids over the two widest arguments, one per choice of the others.

    Empty for one argument, or more than MAX_GRIDS choices of the others.
    """
    arity = rule.arity
    by_arguments = {tuple(row.arguments): row for row in rule.rows}
    if arity == 1:
        return []
    values = [list(dict.fromkeys(key[i] for key in by_arguments)) for i in range(arity)]
    down, across = sorted(sorted(range(arity), key=lambda i: -len(values[i]))[:2])
    others = [i for i in range(arity) if i not in (down, across)]
    slices: dict[tuple[str, ...], dict[tuple[str, str], RowDescription]] = {}
    for key, row in by_arguments.items():
        slices.setdefault(tuple(key[i] for i in others), {})[key[down], key[across]] = row
    if len(slices) > MAX_GRIDS:
        return []
    grids = []
    for fixed in sorted(slices, key=lambda f: [values[i].index(v) for i, v in zip(others, f, strict=True)]):
        fixed_text = ", ".join(f"argument {i + 1} = {shown(v)}" for i, v in zip(others, fixed, strict=True))
        corner = f"{down + 1} \\ {across + 1}"
        grids.append(Grid(fixed_text, corner, values[down], values[across], slices[fixed]))
    return grids
