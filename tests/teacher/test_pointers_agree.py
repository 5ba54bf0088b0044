"""The two readers of pointers say the same: the machine, one text at a time, and the searches over many rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest

from m2kt.packet import (
    Answer,
    Count,
    Equal,
    Here,
    It,
    Kind,
    Mask,
    Move,
    Order,
    Pointer,
    ProgramExecutor,
    Question,
    Ranking,
    Relation,
    Same,
    Seek,
    Start,
    Stuck,
    Tally,
    Value,
    Where,
    compile_pointer,
)
from m2kt.packet import Unit as AskUnit
from m2kt.packet._machine import compile_question
from m2kt.packet._program import Program
from m2kt.packet._tape import Tape
from m2kt.probes import MASK, Segmenter, Unit
from m2kt.teacher.program._columns import Columns
from m2kt.teacher.program._evaluate import Evaluator
from m2kt.teacher.program._traces import NONE, Rows, Search, Traces

SYMBOLS = ["a", "b", "c", "1", "2"]
CLASSES = [0, 0, 0, 1, 1]
TEXT = [" go", ";", ":", " to", "."]


def _traces(rng: random.Random, n: int) -> tuple[Traces, list[list[Unit]], list[int]]:
    cut = Segmenter(SYMBOLS)
    units, n_prompts = [], []
    for _ in range(n):
        pieces = [rng.choice([*(f" {s}" for s in SYMBOLS), *SYMBOLS, *TEXT]) for _ in range(rng.randint(4, 18))]
        units.append([_unit(cut, p) for p in pieces])
        n_prompts.append(rng.randint(1, len(pieces) - 2))
    return Traces(units, n_prompts, SYMBOLS, CLASSES), units, n_prompts


def _unit(cut: Segmenter, text: str) -> Unit:
    body = text.strip()
    return cut.unit(body, text[: -len(body)]) if body in SYMBOLS else cut.unit(text, "")


def _kind(rng: random.Random) -> Kind:
    wanted: list[str | int | None] = [MASK, f"{MASK}0", f"{MASK}1", *TEXT, 0, 3]
    some = [None, None, None, *wanted]
    own: list[str | int | tuple[int, ...] | None] = [*wanted, None, (0, 2), (1, 3, 4)]
    word: Literal["first", "last"] | None = rng.choice([None, None, "first", "last"])
    return Kind(own=rng.choice(own), before=rng.choice(some), after=rng.choice(some), word=word)


def _pointer(rng: random.Random, depth: int = 3, *, it: bool = False) -> Pointer:
    """A pointer; inside a condition it may rest on the unit that is asked about."""
    if depth == 0 or rng.random() < 0.25:
        return rng.choice([It(), It(), Start(), Here()] if it else [Start(), Answer(), Here()])
    if rng.random() < 0.4:
        return Move(of=_pointer(rng, depth - 1, it=it), by=rng.randint(-4, 4))
    count = _kind(rng) if rng.random() < 0.4 else None
    since = _pointer(rng, depth - 1, it=it) if rng.random() < 0.4 else None
    nth = Count(plus=rng.randint(-1, 2), count=count, since=since if count else None)
    same = []
    if rng.random() < 0.4:
        same = [Same(offset=0, as_=_pointer(rng, depth - 1, it=it))]
        if rng.random() < 0.4:
            same.append(Same(offset=rng.choice([-2, -1, 1, 2]), as_=_pointer(rng, depth - 1, it=it)))
    where = [_where(rng, depth) for _ in range(rng.choice([0, 0, 1, 2]))]
    rank = None
    if rng.random() < 0.2:
        order = rng.sample(range(len(SYMBOLS)), 4)
        before = tuple((a, b) for i, a in enumerate(order) for b in order[i + 1 :])
        rank = Ranking(before=before, offset=rng.choice([0, 0, -1, 2]), until=_pointer(rng, depth - 1, it=it))
    of, step = _pointer(rng, depth - 1, it=it), rng.choice([1, -1])
    return Seek(of=of, step=1 if step > 0 else -1, kind=_kind(rng), same=same, where=where, rank=rank, nth=nth)


def _where(rng: random.Random, depth: int) -> Where:
    a, b = _pointer(rng, depth - 1, it=True), _pointer(rng, depth - 1, it=True)
    every = tuple((x, y) for x in range(len(SYMBOLS)) for y in range(len(SYMBOLS)))
    less = Relation(of=(a, b), rows=every, finds=tuple(int(x < y) for x, y in every))
    asked: list[tuple[Question, list[Value]]] = [
        (Equal(at=a, as_=b), [True]),
        (Mask(at=a), [None, "go", f"{MASK}1"]),
        (Order(at=a, as_=b), [-1, 0, 1, None]),
        (AskUnit(at=a), [2, None]),
        (less, [1]),
    ]
    ask, values = rng.choice(asked)
    return Where(ask=ask, finds=rng.choice(values), holds=isinstance(ask, Relation) or rng.random() < 0.7)


def _found(find: Callable[[Tape], Value], tape: Tape) -> tuple[Value, bool]:
    """What the machine finds; false where a relation has no row."""
    try:
        return find(tape), True
    except Stuck:
        return None, False


@pytest.mark.parametrize("seed", range(14))
def test_both_readers_find_the_same_place(seed: int) -> None:
    rng = random.Random(seed)
    traces, units, n_prompts = _traces(rng, 12)
    rows, _, _ = traces.rows()
    executor = ProgramExecutor(Program(symbols=SYMBOLS, classes=CLASSES, rules=[], states=[], stop="\n"))
    pointers = [_pointer(rng) for _ in range(40)]
    questions: list[Question] = []
    for a, b in zip(pointers[::2], pointers[1::2], strict=True):
        questions += [
            AskUnit(at=a),
            Mask(at=a),
            Equal(at=a, as_=b),
            Order(at=a, as_=b),
            Tally(count=_kind(rng), since=a),
        ]
        related = [(x, y) for x in range(len(SYMBOLS)) for y in range(len(SYMBOLS)) if rng.random() < 0.7]
        questions.append(Relation(of=(a, b), rows=tuple(related), finds=tuple(rng.randint(0, 2) for _ in related)))
    evaluator = Evaluator(Search(traces, rows))
    found = [evaluator.place(p) for p in pointers]
    machines, asks = [compile_pointer(p) for p in pointers], [compile_question(q) for q in questions]
    for row, (m, here) in enumerate(zip(rows.trace_N.tolist(), rows.here_N.tolist(), strict=True)):
        run = executor.begin(units[m][: n_prompts[m]])
        for unit in units[m][n_prompts[m] : here]:
            executor.wrote(run, unit, None)
        for pointer, machine, place_N in zip(pointers, machines, found, strict=True):
            place, known = _found(machine, run.tape)
            assert not known or (NONE if place is None else place) == place_N[row], (pointer, m, here)
        for question, ask in zip(questions, asks, strict=True):
            value, known = _found(ask, run.tape)
            assert not known or evaluator.is_value(question, value)[row], (question, m, here)


@pytest.mark.parametrize("seed", range(3))
def test_every_candidate_stands_where_its_pointer_says(seed: int) -> None:
    rng = random.Random(seed)
    traces, _, _ = _traces(rng, 30)
    every, _, _ = traces.rows()
    rows = Rows(every.trace_N[::3], every.here_N[::3])
    candidates, evaluator = Columns(Search(traces, rows)), Evaluator(Search(traces, rows))
    columns = candidates.upto(4)
    assert all(len(candidates.upto(s)) < len(candidates.upto(s + 1)) for s in range(4))
    for column in rng.sample(columns, min(len(columns), 600)):
        assert np.array_equal(evaluator.place(column.pointer), column.place_N), column.pointer
