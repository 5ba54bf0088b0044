"""Shapes that were never probed: the program behind a graph's tries, unrolled behind a longer prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2kt.errors import PacketError
from m2kt.probes import ProbeSpec

from ._graph import Case, Decision, Graph, GraphExecutor, Guard, Node, TemplateGraph, fixed_lookup
from ._program import Leaf, Past, Program, describe, learn, mask_of

if TYPE_CHECKING:
    from ._packet import Packet

FORESEEN = 0.95  # share of a shape's traces
CHECKED = 200  # prompts
MAX_NODES = 4096


def lengthen(packet: Packet, shapes: int = 1) -> Packet:
    """A variant of the packet in which the first held-out shapes have tries and count as probed; itself for 0.

    All that follows a graph then follows these tries too: rehearsal draws prompts of these shapes from the rehearsal
    split, and what is evaluated on them comes from the evaluation split. The other held-out shapes stay held out.

    Raises:
        SpecError: the spec holds out fewer shapes.
        PacketError: the graph does not carry over to them; the message says why.
    """
    if not shapes:
        return packet
    spec, graph = packet.spec.lengthened(shapes), packet.graph
    templates = [*graph.templates, *(extend(graph, packet.spec, i) for i in range(shapes))]
    return packet.replace(spec=spec, graph=graph.model_copy(update={"templates": templates}))


def extend(graph: Graph, spec: ProbeSpec, held_out: int = 0) -> TemplateGraph:
    """The trie of a held-out shape, made from those of the probed ones.

    Args:
        held_out: index of the shape among the spec's held-out ones.

    Raises:
        PacketError: the probed shapes are not one pattern at several sizes, or the steps of the held-out one do not
            follow from theirs.
    """
    text = spec.template_text(held_out, held_out=True)
    return unroll(_one_pattern(graph, spec), spec.masks(held_out, held_out=True), text, graph.stop)


def foresight(graph: Graph, spec: ProbeSpec) -> float:
    """Evidence for what :func:`extend` does: how much of the largest probed shape the smaller ones foretell.

    Share of traces over made-up tables, letter by letter.
    """
    *smaller, largest = _by_size(spec)
    try:
        return _foretold(learn(_shapes(graph, spec, smaller)), graph, spec, largest)
    except PacketError:
        return 0.0


def _by_size(spec: ProbeSpec) -> list[int]:
    return sorted(range(spec.n_templates), key=lambda i: len(spec.masks(i)))


def _shapes(graph: Graph, spec: ProbeSpec, which: Sequence[int]) -> list[tuple[TemplateGraph, tuple[str, ...]]]:
    return [(graph.templates[i], spec.masks(i)) for i in which]


def _one_pattern(graph: Graph, spec: ProbeSpec) -> Program:
    """The program of all probed shapes, or of the smaller ones if they foretell the others.

    The largest ones hold ways that hardly any prompt takes and that extraction may have guessed at.
    """
    order = _by_size(spec)
    complaint = "expected two probed shapes at least"
    for n in range(len(order), 1, -1):
        try:
            program = learn(_shapes(graph, spec, order[:n]))
            reason = _by_heart(program)
            if not reason and all(_foretold(program, graph, spec, i) >= FORESEEN for i in order[n:]):
                return program
        except PacketError as error:
            reason = str(error)
        if n == len(order):
            complaint = reason
    raise PacketError(
        f"the graph of {spec.name} does not extend to longer shapes, because the probed shapes are not one pattern "
        f"at several sizes: {complaint}. Set rehearsal.longer to 0, or probe more sizes of one pattern"
    )


def _by_heart(program: Program) -> str:
    """What a program knows of one of its shapes only, in words: nothing, if it speaks of all of them alike."""
    clauses = [clause for clause in program.clauses if clause.by_heart]
    steps = [describe(step) for step in program.rare]
    parts = [
        (f"{len(steps)} steps occur in one shape only", steps),
        (
            f"{len(clauses)} of {len(program.clauses)} clauses apply in one shape only",
            [str(c) for c in clauses],
        ),
    ]
    return "; ".join(f"{what} ({', '.join(which[:3])})" for what, which in parts if which)


def _foretold(program: Program, graph: Graph, spec: ProbeSpec, shape: int) -> float:
    """Share of a probed shape's traces that a program writes as they are, letter by letter, over made-up tables.

    Raises:
        PacketError: it does not know how.
    """
    templates = list(graph.templates)
    templates[shape] = unroll(program, spec.masks(shape), spec.template_text(shape), graph.stop)
    told, real = GraphExecutor(graph.model_copy(update={"templates": templates})), GraphExecutor(graph)
    rng = np.random.default_rng(0)
    agreed = []
    for prompt in spec.sample("probing", CHECKED, seed=0, templates=[shape]):
        outputs = np.concatenate([rng.choice(rule.range, len(rule.rows)) for rule in graph.rules])
        table = fixed_lookup(outputs.tolist(), graph)
        expected = real(prompt, table)
        if expected.complete:
            agreed.append(told(prompt, table).completion == expected.completion)
    return sum(agreed) / len(agreed) if agreed else 0.0


@dataclass(frozen=True)
class _Fork:
    """Pasts that differ in what a test told."""

    source: int
    branches: tuple[tuple[tuple[int, ...], _Tree], ...]


@dataclass(frozen=True)
class _Way:
    """One past, with the step just decided for it."""

    past: Past
    step: Leaf | None = None


_Tree = _Fork | _Way


def unroll(program: Program, prompt: Sequence[str], text: str, stop: str) -> TemplateGraph:
    """The trie that a program writes behind a prompt of this shape.

    Raises:
        PacketError: the program knows no next step somewhere, or comes to no end.
    """
    nodes: list[Node] = []
    pending: list[tuple[_Tree, int | None, str]] = [(_Way(Past.begin(prompt)), None, "")]
    while pending:
        tree, parent, mask = pending.pop(0)
        if len(nodes) >= MAX_NODES:
            raise PacketError(f"{text!r}: the predicted steps do not end")
        decided = _decide(program, tree, text)
        if parent is not None:
            nodes[parent].children[mask] = len(nodes)
        nodes.append(Node(step=_decision(decided)))
        for following in dict.fromkeys(mask_of(step) for step in _steps(decided)):
            rest = _after(decided, following)
            if following != stop and rest is not None:
                pending.append((rest, len(nodes) - 1, following))
    return TemplateGraph(template=text, nodes=nodes)


def _decide(program: Program, tree: _Tree, text: str) -> _Tree:
    """The same pasts, each with its next step, and forked further where the program tests something first."""
    if isinstance(tree, _Fork):
        return _Fork(tree.source, tuple((v, _decide(program, t, text)) for v, t in tree.branches))
    step = program.next(tree.past)
    if step is None:
        raise PacketError(
            f"{text!r}: after {len(tree.past.prompt)} units of the prompt and "
            f"{tree.past.here - len(tree.past.prompt)} of the answer, the probed shapes do not determine the next step"
        )
    if not isinstance(step, Guard):
        return _Way(tree.past, step)
    branches = [
        (tuple(case.values), _Way(tree.past.tested(step, i)))
        for i, case in enumerate(step.cases)
        if tree.past.possible(step.source, case.values)
    ]
    if len(branches) == 1:
        return _decide(program, branches[0][1], text)
    return _Fork(step.source, tuple((v, _decide(program, t, text)) for v, t in branches))


def _decision(tree: _Tree) -> Decision:
    """What a trie writes for pasts with their steps: a guard only where it makes a difference."""
    if isinstance(tree, _Way):
        assert tree.step is not None
        return tree.step
    cases = [Case(values=list(values), then=_decision(t)) for values, t in tree.branches]
    if all(case.then == cases[0].then for case in cases):
        return cases[0].then
    return Guard(source=tree.source, cases=cases)


def _steps(tree: _Tree) -> Iterator[Leaf]:
    if isinstance(tree, _Way):
        assert tree.step is not None
        yield tree.step
    else:
        for _, branch in tree.branches:
            yield from _steps(branch)


def _after(tree: _Tree, mask: str) -> _Tree | None:
    """The pasts whose step wrote a unit of this mask; a test that only they can have passed is no fork any more."""
    if isinstance(tree, _Way):
        assert tree.step is not None
        return _Way(tree.past.wrote(tree.step)) if mask_of(tree.step) == mask else None
    branches = [(values, _after(t, mask)) for values, t in tree.branches]
    kept = tuple((values, t) for values, t in branches if t is not None)
    return kept[0][1] if len(kept) == 1 else _Fork(tree.source, kept) if kept else None
