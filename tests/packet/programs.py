"""The programs of docs/program.md, and their traces as it shows them."""

from __future__ import annotations

from collections.abc import Sequence

from m2kt.packet import (
    Answer,
    Back,
    Case,
    Count,
    Decision,
    Equal,
    Here,
    It,
    Kind,
    Mask,
    Move,
    Order,
    Pointer,
    Program,
    ProgramExecutor,
    Ranking,
    Rule,
    Same,
    Seek,
    Start,
    State,
    Test,
    Unit,
    Where,
    WriteCopy,
    WriteLiteral,
    WriteRule,
    fixed_lookup,
)
from m2kt.probes import MASK, Prompt, Template
from m2kt.render import state_chart, state_text
from tests.packet.samples import OUTPUTS, sample_program

DIGITS = [str(d) for d in range(10)]


def copy(source: Pointer, lead: str = " ") -> WriteCopy:
    return WriteCopy(source=source, lead=lead)


def back(units: int) -> Move:
    return Move(of=Here(), by=-units)


def states(by_masks: dict[tuple[str, ...], Decision]) -> list[State]:
    return [State(after=after, decision=decision) for after, decision in by_masks.items()]


def look_up() -> Program:
    """``a=b, b=c, c=5: a?`` -> `` a b c 5.``: who is bound to what, as far as it goes."""
    bound = Seek(of=Start(), step=1, kind=Kind(own=None, before="="), same=[Same(offset=-2, as_=back(1))])
    decisions: dict[tuple[str, ...], Decision] = {
        ("",): copy(Move(of=Answer(), by=-2)),
        (" □0",): copy(bound),
        (" □1",): WriteLiteral(text="."),
        (".",): WriteLiteral(text="\n"),
    }
    symbols = ["a", "b", "c", "d", *DIGITS]
    return Program(symbols=symbols, classes=[0] * 4 + [1] * 10, rules=[], states=states(decisions), stop="\n")


def leaving_out() -> Program:
    """``all but b: c a b d b.`` -> `` c, a, d; first a.``: a filter, and the first of the list by rank."""
    letter = Kind(own=MASK)
    kept = [Where(ask=Equal(at=It(), as_=Move(of=Start(), by=2)), finds=True, holds=False)]
    first = Seek(of=Move(of=Start(), by=4), step=1, kind=letter, where=kept)
    following = Seek(of=Move(of=Back(state=None), by=1), step=1, kind=letter, where=kept)
    in_order = tuple((a, b) for a in range(4) for b in range(a + 1, 4))
    least = Seek(of=Answer(), step=1, kind=letter, rank=Ranking(before=in_order, until=Here()))
    decisions: dict[tuple[str, ...], Decision] = {
        ("",): copy(first),
        (" □0",): Test(
            ask=Order(at=following, as_=Answer()),
            cases=[Case(values=[-1], then=WriteLiteral(text=","))],
            otherwise=WriteLiteral(text=";"),
        ),
        (",",): copy(following),
        (";",): WriteLiteral(text=" first"),
        (" first",): copy(least),
        (" first", " □0"): WriteLiteral(text="."),
        (".",): WriteLiteral(text="\n"),
    }
    return Program(symbols=list("abcd"), classes=[0] * 4, rules=[], states=states(decisions), stop="\n")


def addition() -> Program:
    """``47+85:`` -> `` 7 5 0=2 1; 4 8 1=3 1 >132.``: a column a turn, from the right, then the digits in order."""
    digit, columns = Kind(own="□0"), Kind(own=";")
    plus = Seek(of=Start(), step=1, kind=Kind(own="+"))
    upper = Seek(of=plus, step=-1, kind=digit, nth=Count(count=columns))
    lower = Seek(of=Answer(), step=-1, kind=digit, nth=Count(count=columns))
    left = Seek(of=plus, step=-1, kind=digit, nth=Count(plus=1, count=columns))
    mark = Seek(of=Here(), step=-1, kind=Kind(own=" >"))

    def sums(skipped: int) -> Decision:
        """The sums behind "=", from the last column on, less those that stand there already."""
        following = Seek(
            of=mark, step=-1, kind=Kind(own="□0", before="="), nth=Count(plus=skipped, count=digit, since=mark)
        )
        ends = Case(values=[None], then=WriteLiteral(text="."))
        return Test(ask=Mask(at=following), cases=[ends], otherwise=copy(following, ""))

    def by_carry(none: Decision, one: Decision) -> Decision:
        cases = [Case(values=[0], then=none), Case(values=[1], then=one)]
        return Test(ask=Unit(at=Move(of=mark, by=-1)), cases=cases)

    more = Test(
        ask=Mask(at=left),
        cases=[Case(values=[None], then=WriteLiteral(text=" >"))],
        otherwise=WriteLiteral(text=";"),
    )
    decisions: dict[tuple[str, ...], Decision] = {
        ("",): copy(upper),
        (";",): copy(upper),
        ("", " □0"): copy(lower),
        (";", " □0"): copy(lower),
        ("", " □0", " □0"): WriteLiteral(text=" 0", symbol=0, lead=" "),
        (";", " □0", " □0"): copy(back(4)),
        (" □0", " □0", " □0"): WriteLiteral(text="="),
        ("=",): WriteRule(rule=0, sources=[back(4), back(3), back(2)]),
        ("=", "□0"): WriteRule(rule=1, sources=[back(5), back(4), back(3)], lead=" "),
        ("□0", " □0"): more,
        (" >",): by_carry(sums(0), copy(Move(of=mark, by=-1), "")),
        (" >", "□0"): by_carry(sums(0), sums(-1)),
        ("□0", "□0"): by_carry(sums(0), sums(-1)),
        (".",): WriteLiteral(text="\n"),
    }
    rows = [(a, b, c) for a in range(10) for b in range(10) for c in range(2)]
    rules = [
        Rule(name=name, arity=3, rows=rows, outputs=[None] * 200, range=written, family=0, offset=offset, uses=1)
        for name, written, offset in (("digit", list(range(10)), 0), ("carry", [0, 1], 200))
    ]
    return Program(symbols=DIGITS, classes=[0] * 10, rules=rules, states=states(decisions), stop="\n")


ADDED = [f(sum(row)) for f in (lambda n: n % 10, lambda n: n // 10) for row in addition().rules[0].rows]
EXAMPLES: dict[str, tuple[Program, str, dict[str, list[str]], str, list[int]]] = {
    "fold": (sample_program(), "{x} {x} {x}:", {"x": ["a", "b", "c"]}, "abc", OUTPUTS),
    "look-up": (
        look_up(),
        "{v}={v}, {v}={d}, {v}={v}: {v}?",
        {"v": ["a", "b", "c", "d"], "d": DIGITS},
        "abc5bca",
        [],
    ),
    "leaving-out": (
        leaving_out(),
        "all but {v}: {v} {v} {v} {v} {v}.",
        {"v": ["a", "b", "c", "d"]},
        "bcabdb",
        [],
    ),
    "addition": (addition(), "{d}{d}+{d}{d}:", {"d": DIGITS}, "4785", ADDED),
}
"""By name: program, template, slots, their values in one prompt, and the rules' outputs."""


def prompt(template: str, slots: dict[str, list[str]], values: Sequence[str]) -> Prompt:
    return Template(template, slots).fill(tuple(values), template=0, held_out=False)


def chart_text(name: str) -> str:
    """The program as ``m2kt inspect`` shows it, without its frame."""
    lines = []
    for number, state in enumerate(state_chart(EXAMPLES[name][0])):
        lines.append(f"{number}  {state.name}")
        lines += ["     " + "   " * line.depth + line.text for line in state.lines]
    return "\n".join(lines)


def trace_table(name: str) -> str:
    """A step a row: the state, where the leaf's pointers stand and what is there, and what is written."""
    program, template, slots, values, outputs = EXAMPLES[name]
    executor = ProgramExecutor(program)
    trace = executor(prompt(template, slots, values), fixed_lookup(outputs, program))
    assert trace.complete, trace.failure
    units = [unit.text for unit in trace.units]
    rows = ["| unit | state | looks at | writes |", "| --- | --- | --- | --- |"]
    for step, (state, unit) in enumerate(zip(trace.path, trace.units[trace.n_prompt :], strict=True)):
        looked = ", ".join(f"{source} (`{units[source].strip()}`)" for source in unit.sources)
        how = f"{program.rules[unit.rule].name}" if unit.rule is not None else unit.kind
        text = unit.text.replace("\n", "\\n")
        after = state_text(program.states[state].after, program)
        rows.append(f"| {trace.n_prompt + step} | {after} | {looked or '–'} | `{text}` ({how}) |")
    numbered = " ".join(f"{i}:`{unit.strip()}`" for i, unit in enumerate(units[: trace.n_prompt]))
    return "\n".join([f"The question's units: {numbered}.", "", *rows])
