"""What searches went past joins the relations of their conditions: the program is right where it does not meet them.

Letters: N rows, P pairs of a row and a unit, A arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from m2kt.packet import Pointer, Seek
from m2kt.packet._pointers import Decision, Relation, Test, WriteCopy, WriteRule, asked_pointers
from m2kt.teacher.program._evaluate import Evaluator
from m2kt.teacher.program._traces import Found

Rows = dict[tuple[int, ...], int]


def with_passed(
    decisions: Mapping[tuple[str, ...], Decision], evaluator_of: Callable[[tuple[str, ...]], Evaluator]
) -> dict[tuple[str, ...], Decision]:
    """The decisions of all states; relations by which searches go are one where they are about the same.

    A unit that a search went past, and that no row is about, is one of which the relation does not hold.

    Args:
        evaluator_of: evaluates over the steps of a state.
    """
    passed = _Passed()
    filtering = {after: d for after, d in decisions.items() if any(_conditions(d))}
    for decision in filtering.values():
        for relation in _conditions(decision):
            passed.join(relation)
    for after, decision in filtering.items():
        passed.visit(decision, evaluator := evaluator_of(after), np.arange(len(evaluator.search.rows)))
    return {a: _with_relations(d, passed.completed) if a in filtering else d for a, d in decisions.items()}


class _Passed:
    """The rows of each relation."""

    def __init__(self) -> None:
        self.rows: dict[str, Rows] = {}  # by the arguments

    def join(self, relation: Relation) -> None:
        """What is known of a relation so far."""
        rows = self.rows.setdefault(_about(relation), {})
        for row, finds in zip(relation.rows, relation.finds, strict=True):
            rows[row] = max(finds, rows.get(row, 0))

    def visit(self, decision: Decision, evaluator: Evaluator, rows: NDArray[np.intp]) -> None:
        """Follow the steps ``rows`` through a decision."""
        match decision:
            case WriteCopy():
                self._look(decision.source, evaluator, rows)
            case WriteRule():
                for source in decision.sources:
                    self._look(source, evaluator, rows)
            case Test():
                for pointer in asked_pointers(decision.ask):
                    self._look(pointer, evaluator, rows)
                for case in decision.cases:
                    is_N = np.any([evaluator.is_value(decision.ask, value) for value in case.values], 0)
                    self.visit(case.then, evaluator, rows[is_N[rows]])
                    rows = rows[~is_N[rows]]
                if decision.otherwise is not None:
                    self.visit(decision.otherwise, evaluator, rows)

    def _look(self, pointer: Pointer, evaluator: Evaluator, rows: NDArray[np.intp]) -> None:
        for seek in _seeks(pointer):
            if not any(isinstance(where.ask, Relation) for where in seek.where):
                continue
            found = self._up_to(seek, evaluator, rows)
            for i, where in enumerate(seek.where):
                if not isinstance(where.ask, Relation):
                    continue
                before = seek.model_copy(update={"where": seek.where[:i]})
                reached = _both(found, evaluator.fitting(before), evaluator)
                about = evaluator.about(reached)
                name_PA = np.stack([about.unit(argument) for argument in where.ask.of], 1)
                symbols_P = ((name_PA >= 0) & (name_PA < about.search.traces.n_symbols)).all(1)
                table = self.rows[_about(where.ask)]
                for row in map(tuple, np.unique(name_PA[symbols_P], axis=0).tolist()):
                    table.setdefault(row, 0)

    def _up_to(self, seek: Seek, evaluator: Evaluator, rows: NDArray[np.intp]) -> Found:
        """The units of a search's kind from where it begins to what it finds."""
        from_N, to_N = evaluator.place(seek.of), evaluator.place(seek)
        found = evaluator.search.every(seek.kind)
        is_N = np.zeros(len(from_N), dtype=bool)
        is_N[rows] = from_N[rows] >= 0
        from_P, to_P = from_N[found.row_P], to_N[found.row_P]
        if seek.step > 0:
            inside_P = (found.place_P >= from_P) & ((to_P < 0) | (found.place_P <= to_P))
        else:
            inside_P = (found.place_P < from_P) & (found.place_P >= to_P)
        return found.take(is_N[found.row_P] & inside_P)

    def completed(self, relation: Relation) -> Relation:
        """The relation with all its rows."""
        rows = sorted(self.rows[_about(relation)].items())
        return relation.model_copy(update={"rows": tuple(r for r, _ in rows), "finds": tuple(f for _, f in rows)})


def _about(relation: Relation) -> str:
    return " ".join(pointer.model_dump_json() for pointer in relation.of)


def _both(a: Found, b: Found, evaluator: Evaluator) -> Found:
    """Units that are in both."""
    size = evaluator.search.traces.name_MU.shape[1] + 1
    return a.take(np.isin(a.row_P * size + a.place_P, b.row_P * size + b.place_P))


def _seeks(part: object) -> Iterator[Seek]:
    """The searches with conditions of a pointer or a decision."""
    if isinstance(part, Seek) and part.where:
        yield part
    if isinstance(part, BaseModel):
        for name in type(part).model_fields:
            yield from _seeks(getattr(part, name))
    elif isinstance(part, list | tuple):
        for one in part:
            yield from _seeks(one)


def _conditions(decision: Decision) -> Iterator[Relation]:
    """The relations by which the searches of a decision go."""
    for seek in _seeks(decision):
        yield from (where.ask for where in seek.where if isinstance(where.ask, Relation))


def _with_relations(part: Any, change: Callable[[Relation], Relation]) -> Any:
    """A decision with other relations in the conditions of its searches."""
    if isinstance(part, list | tuple):
        return type(part)(_with_relations(one, change) for one in part)
    if not isinstance(part, BaseModel):
        return part
    fields = {name: _with_relations(getattr(part, name), change) for name in type(part).model_fields}
    if isinstance(part, Seek):
        fields["where"] = [
            w.model_copy(update={"ask": change(w.ask)}) if isinstance(w.ask, Relation) else w for w in part.where
        ]
    return part.model_copy(update=fields)
