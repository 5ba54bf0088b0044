"""A graph of format 1 as a program that writes the same traces, and refuses where the graph had no next step.

Every masked prefix becomes a state. Where several templates share one, its decision first tells them apart: by the
number of the prompt's units, then by structure that differs, then by symbols that only one of them can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from m2kt.errors import PacketError
from m2kt.probes import MASK, ProbeSpec, Segmenter, Template, Unit

from . import _format1 as old
from ._check import check_range
from ._check_program import MAX_MASKS
from ._pointers import (
    Answer,
    Case,
    Decision,
    Mask,
    Move,
    Order,
    Pointer,
    Start,
    Test,
    WriteCopy,
    WriteLiteral,
    WriteRule,
    leaves,
)
from ._pointers import Unit as AskUnit
from ._program import START_STATE, Program, State
from ._tape import name_of
from ._tensors import Array, Arrays

_Edge = tuple[int, int, int, int]  # state, leaf, argument, rule
_SYMBOL = f"{MASK}0"
_NOWHERE = Move(of=Start(), by=-1)


@dataclass(frozen=True)
class Conversion:
    """A program, and where the graph's nodes and units are in it."""

    program: Program
    state: dict[tuple[int, int], int]
    """By template and node, its state; of several, the first."""
    shapes: list[_Shape]

    def edges(self, edges_M6: Array) -> tuple[Array, Array]:
        """Rows of edges_M4, and which rows of format 1 are kept: nodes may be unused."""
        found = [self._edge(*row) for row in edges_M6.tolist()]
        rows = [edge for edge in found if edge is not None]
        kept = np.array([edge is not None for edge in found], dtype=bool)
        return np.array(rows, dtype=np.int32).reshape(-1, 4), kept

    def _edge(self, template: int, node: int, argument: int, source: int, _: int, rule: int) -> _Edge | None:
        state = self.state.get((template, node))
        if state is None:
            return None
        pointer = self.shapes[template].pointer(source)
        for number, leaf in enumerate(leaves(self.program.states[state].decision)):
            if isinstance(leaf, WriteLiteral) or (leaf.rule if isinstance(leaf, WriteRule) else -1) != rule:
                continue
            sources = leaf.sources if isinstance(leaf, WriteRule) else [leaf.source]
            if argument < len(sources) and sources[argument] == pointer:
                return state, number, argument, rule
        return None

    def places(self, where_M3: Array) -> tuple[Array, Array]:
        """The same for where_M3."""
        rows: list[tuple[int, int, int]] = []
        kept = np.zeros(len(where_M3), dtype=bool)
        for i, (template, trace, node) in enumerate(where_M3.tolist()):
            state = self.state.get((template, node))
            if state is not None:
                kept[i] = True
                rows.append((state, trace, len(self.program.states[state].after) - len(START_STATE)))
        return np.array(rows, dtype=np.int32).reshape(-1, 3), kept


def convert(graph: old.Graph, spec: ProbeSpec, where: str = "packet") -> Conversion:
    """The program of a checked graph.

    Raises:
        PacketError: two templates cannot be told apart where they differ, or the states are too many.
    """
    shapes = _shapes(graph, spec)
    states: list[State] = []
    state_of: dict[tuple[int, int], int] = {}
    masks = 0
    level: dict[tuple[str, ...], dict[int, int | None]] = {
        START_STATE: {t: 0 if template.nodes else None for t, template in enumerate(graph.templates)}
    }
    while level:
        following: dict[tuple[str, ...], dict[int, int | None]] = {}
        for prefix, nodes in level.items():
            steps = {
                t: None if n is None else _decision(graph.templates[t].nodes[n].step, shapes[t])
                for t, n in nodes.items()
            }
            decision = _told_apart(steps, shapes, where)
            if decision is None:
                continue
            masks += len(prefix)
            if masks > MAX_MASKS:  # nodes that share children could have prefixes without number
                raise PacketError(f"{where}: graph.json has too many paths to be read as a program")
            for t, n in nodes.items():
                if n is not None:
                    state_of.setdefault((t, n), len(states))
                    _follow(graph, t, n, prefix, following, where)
            states.append(State(after=prefix, decision=decision))
        level = following
    uses = [0] * len(graph.rules)
    for state in states:
        for leaf in leaves(state.decision):
            if isinstance(leaf, WriteRule):
                uses[leaf.rule] += 1
    rules = [rule.model_copy(update={"uses": n}) for rule, n in zip(graph.rules, uses, strict=True)]
    program = Program(
        symbols=graph.symbols, classes=[0] * len(graph.symbols), rules=rules, states=states, stop=graph.stop
    )
    return Conversion(program, state_of, shapes)


def _follow(
    graph: old.Graph,
    template: int,
    node: int,
    prefix: tuple[str, ...],
    following: dict[tuple[str, ...], dict[int, int | None]],
    where: str,
) -> None:
    """Adds the prefixes that a node's leaves lead to; None where the graph has no node for them."""
    step = graph.templates[template].nodes[node]
    for leaf in old.leaves(step.step):
        structure = isinstance(leaf, old.WriteLiteral) and leaf.symbol is None
        text = leaf.text if isinstance(leaf, old.WriteLiteral) else ""
        if structure and text == graph.stop:
            continue
        child = step.children.get(text if structure else leaf.lead + MASK)
        group = following.setdefault((*prefix, text if structure else leaf.lead + _SYMBOL), {})
        if group.setdefault(template, child) != child:
            raise PacketError(f"{where}: node {node} of template {template} has one text for structure and symbols")


# -- units ------------------------------------------------------------------------------------------------------------
_Name = str | int


@dataclass(frozen=True)
class _Shape:
    """A template in a program's units, which cut the text between two symbols finer."""

    text: str
    symbols: tuple[int | None, ...]
    """By unit of the graph, the place of its symbol; None: structure."""
    first: tuple[int, ...]
    """By unit of the graph, its first unit in the program."""
    names: tuple[frozenset[_Name], ...]
    """By unit of the program, what may stand there."""

    def unit(self, index: int) -> int:
        """The program's unit for one of the graph."""
        behind = index - len(self.first)
        return self.first[index] if behind < 0 else len(self.names) + behind

    def pointer(self, index: int) -> Pointer:
        """Structure of the prompt was no symbol, even where the program finds one in it: nothing stands there."""
        if index < len(self.symbols) and self.symbols[index] is None:
            return _NOWHERE
        return Move(of=Start(), by=self.unit(index))

    def mask(self, place: int) -> str | None:
        """What ``Mask`` finds; None where that depends on the prompt."""
        masks = {_SYMBOL if isinstance(name, int) else name for name in self.names[place]}
        return masks.pop() if len(masks) == 1 else None


def _shapes(graph: old.Graph, spec: ProbeSpec) -> list[_Shape]:
    cut, ids = Segmenter(graph.symbols, apart=()), {s: i for i, s in enumerate(graph.symbols)}
    values = {name: slot.values for name, slot in spec.slots.items()}
    shapes = []
    for i in range(spec.n_templates):
        names: list[frozenset[_Name]] = []
        symbols: list[int | None] = []
        first: list[int] = []
        for part in Template(spec.template_text(i), values).parts:
            first.append(len(names))
            if isinstance(part, str):
                symbols.append(None)
                names += [frozenset({name_of(unit, ids)}) for unit in cut.cut(part)]
            else:
                symbols.append(len(names))
                units = (Unit(part.lead + value, value, part.lead) for value in values[part.slot])
                names.append(frozenset(name_of(unit, ids) for unit in units))
        shapes.append(_Shape(spec.template_text(i), tuple(symbols), tuple(first), tuple(names)))
    return shapes


def _decision(step: old.Decision, shape: _Shape) -> Decision:
    match step:
        case old.WriteLiteral():
            return WriteLiteral(text=step.text, symbol=step.symbol, lead=step.lead)
        case old.WriteCopy():
            return WriteCopy(source=shape.pointer(step.source), lead=step.lead)
        case old.WriteRule():
            return WriteRule(rule=step.rule, sources=[shape.pointer(s) for s in step.sources], lead=step.lead)
        case old.Guard():
            cases = [
                Case(values=list(case.values), then=_decision(case.then, shape)) for case in step.cases if case.values
            ]
            return Test(ask=AskUnit(at=shape.pointer(step.source)), cases=cases)


# -- templates that share a prefix ------------------------------------------------------------------------------------
_Steps = dict[int, Decision | None]


def _told_apart(steps: _Steps, shapes: Sequence[_Shape], where: str) -> Decision | None:
    """One decision for several templates; None: none of them goes on."""
    distinct = list({id(step): step for step in steps.values()}.values())
    if all(step == distinct[0] for step in distinct[1:]):
        return distinct[0]
    test = _by_size(steps, shapes, where) or _by_structure(steps, shapes, where) or _by_symbol(steps, shapes, where)
    if test is None:
        texts = " and ".join(repr(shapes[t].text) for t in list(steps)[:2])
        raise PacketError(f"{where}: graph.json cannot be read as a program, which does not tell {texts} apart")
    return test


def _case(values: list[str | int | bool | None], steps: _Steps, shapes: Sequence[_Shape], where: str) -> list[Case]:
    then = _told_apart(steps, shapes, where) if steps else None
    return [] if then is None else [Case(values=values, then=then)]


def _by_size(steps: _Steps, shapes: Sequence[_Shape], where: str) -> Decision | None:
    sizes = sorted({len(shapes[t].names) for t in steps})
    if len(sizes) < 2:
        return None
    size = sizes[len(sizes) // 2]
    larger = {t: step for t, step in steps.items() if len(shapes[t].names) > size}
    equal = {t: step for t, step in steps.items() if len(shapes[t].names) == size}
    smaller = {t: step for t, step in steps.items() if len(shapes[t].names) < size}
    cases = [
        *_case([0], equal, shapes, where),
        *_case([1], larger, shapes, where),
        *_case([-1, None], smaller, shapes, where),
    ]
    return Test(ask=Order(at=Answer(), as_=Move(of=Start(), by=size)), cases=cases)


def _by_structure(steps: _Steps, shapes: Sequence[_Shape], where: str) -> Decision | None:
    best: dict[str, _Steps] = {}
    place = -1
    for x in range(min(len(shapes[t].names) for t in steps)):
        groups: dict[str, _Steps] = {}
        for t, step in steps.items():
            mask = shapes[t].mask(x)
            if mask is None:
                break
            groups.setdefault(mask, {})[t] = step
        else:
            if len(groups) > max(1, len(best)):
                best, place = groups, x
    if place < 0:
        return None
    cases = [case for mask, group in best.items() for case in _case([mask], group, shapes, where)]
    return Test(ask=Mask(at=Move(of=Start(), by=place)), cases=cases)


def _by_symbol(steps: _Steps, shapes: Sequence[_Shape], where: str) -> Decision | None:
    for x in range(min(len(shapes[t].names) for t in steps)):
        groups: list[tuple[set[_Name], _Steps]] = []  # templates whose symbols overlap
        for t, step in steps.items():
            names, group = set(shapes[t].names[x]), {t: step}
            for other in [other for other in groups if other[0] & names]:
                groups.remove(other)
                names, group = names | other[0], other[1] | group
            groups.append((names, group))
        if len(groups) > 1:
            cases = [case for n, group in groups for case in _case(sorted(n, key=str), group, shapes, where)]
            return Test(ask=AskUnit(at=Move(of=Start(), by=x)), cases=cases)
    return None


def convert_tensors(conversion: Conversion, attention: Arrays, traces: Arrays) -> tuple[Arrays, Arrays]:
    """Tensors about edges and states of traces, with rows of nodes that no path leads to left out."""
    return (
        _converted(attention, "edges_M6", "edges_M4", conversion.edges),
        _converted(traces, "where_M3", "where_M3", conversion.places),
    )


def _converted(arrays: Arrays, name: str, new: str, rows_of: Callable[[Array], tuple[Array, Array]]) -> Arrays:
    if name not in arrays:
        return arrays
    rows, kept = rows_of(arrays[name])
    others = {n: a for n, a in arrays.items() if n != name}
    along = {n: a for n, a in others.items() if n.rpartition("_")[2].startswith("M")}
    return {**others, **{n: np.ascontiguousarray(a[kept]) for n, a in along.items()}, new: rows}


def check_nodes(arrays: Arrays, graph: old.Graph, where: str) -> None:
    """Rows of edges_M6 (template, node, argument, source, read, rule) and where_M3 (template, trace, node).

    Raises:
        PacketError: a row names what does not exist.
    """
    n_nodes = np.array([len(template.nodes) for template in graph.templates])
    for name, column in (("edges_M6", 1), ("where_M3", 2)):
        rows, what = arrays.get(name), f"{where}: {name}"
        if rows is None or not len(rows):
            continue
        check_range(rows[:, 0], 0, len(graph.templates), "a row", "templates", what)
        if rows[:, 1:5].min() < 0 or (rows[:, column] >= n_nodes[rows[:, 0].astype(np.int64)]).any():
            raise PacketError(f"{what}: a row names a node, unit or trace that does not exist")
        if name == "edges_M6":
            check_range(rows[:, 5], -1, len(graph.rules), "a row", "rules", what)
