"""Tries of longer shapes: made from those of shorter ones, exactly, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2kt.errors import PacketError, SpecError
from m2kt.packet import (
    Graph,
    GraphExecutor,
    Guard,
    Packet,
    TemplateGraph,
    WriteRule,
    extend,
    fixed_lookup,
    foresight,
    lengthen,
)
from m2kt.probes import ProbeSpec
from tests.packet.shapes import (
    columns,
    columns_graph,
    columns_spec,
    fold,
    fold_graph,
    fold_packet,
    fold_spec,
    fold_text,
    line,
    mark,
    spec,
    symbol,
)


def test_a_chain_is_lengthened_by_any_number_of_steps() -> None:
    sizes = (2, 3, 4)
    for i, n in enumerate((5, 6)):
        assert extend(fold_graph(sizes), fold_spec(sizes), i) == fold(n)
    assert extend(fold_graph(sizes), fold_spec(sizes, (9,))) == fold(9)


def test_the_smaller_shapes_predict_the_largest() -> None:
    assert foresight(fold_graph((2, 3, 4)), fold_spec((2, 3, 4))) == 1.0
    # one step, and one that is followed by another: a third does not follow from them
    assert foresight(fold_graph((2, 3)), fold_spec((2, 3))) == 0.0


def test_one_shape_is_no_pattern() -> None:
    with pytest.raises(PacketError, match="two probed shapes"):
        extend(fold_graph((3,)), fold_spec((3,)))


def completions(graph: Graph, probes: ProbeSpec, template: TemplateGraph) -> list[str]:
    """What a trie writes behind prompts of the held-out shape, over tables in which zeros are frequent."""
    executor = GraphExecutor(graph.model_copy(update={"templates": [template]}))
    rng = np.random.default_rng(0)
    written = []
    for prompt in probes.sample("evaluation", 150, seed=0, held_out=True):
        drawn = np.concatenate([rng.choice(rule.range, len(rule.rows)) for rule in graph.rules])
        drawn[rng.random(len(drawn)) < 0.5] = 0
        trace = executor(prompt, fixed_lookup(drawn.tolist(), graph))
        assert trace.complete, trace.failure
        written.append(trace.completion)
    return written


def test_columns_and_dropped_zeros_are_lengthened() -> None:
    graph, probes = columns_graph((1, 2, 3)), columns_spec((1, 2, 3), 4)
    made = completions(graph, probes, extend(graph, probes))
    assert made == completions(graph, probes, columns(4))
    assert {c.split(">")[1].index(".") for c in made} == {1, 2, 3, 4, 5}  # every number of dropped zeros


def misled(graph: Graph) -> Graph:
    """The largest shape takes a 5 for a leading zero where hardly any prompt leads: what extraction may guess."""
    graph = graph.model_copy(deep=True)
    guard = next(node.step for node in graph.templates[-1].nodes if isinstance(node.step, Guard))
    while isinstance(guard.cases[1].then, Guard):
        guard = guard.cases[1].then
    guard.cases[0].values.remove(5)
    guard.cases[1].values.append(5)
    return graph


def test_a_largest_shape_with_an_error_is_left_out_if_the_others_predict_it() -> None:
    graph, probes = columns_graph((1, 2, 3, 4)), columns_spec((1, 2, 3, 4), 5)
    assert foresight(graph, probes) == 1.0
    made = completions(graph, probes, extend(misled(graph), probes))
    assert made == completions(graph, probes, columns(5))
    with pytest.raises(PacketError, match="not one pattern"):  # two sizes do not foretell a third
        extend(misled(columns_graph((1, 2, 3))), columns_spec((1, 2, 3), 4))


def test_forms_that_are_not_sizes_of_one_shape_are_refused() -> None:
    """Nested forms, reduced inside out: each has another order."""
    right = [
        symbol(WriteRule(rule=0, sources=[2, 3], lead=" ")),
        mark(";"),
        symbol(WriteRule(rule=0, sources=[0, 5])),
    ]
    left = [
        symbol(WriteRule(rule=0, sources=[1, 2], lead=" ")),
        mark(";"),
        symbol(WriteRule(rule=0, sources=[6, 4])),
    ]
    texts = ["{x} ({x} {x}):", "({x} {x}) {x}:"]
    graph = fold_graph((2,)).model_copy(
        update={"templates": [line(t, [*s, mark("\n")]) for t, s in zip(texts, (right, left), strict=True)]}
    )
    with pytest.raises(PacketError, match=r"not one pattern at several sizes.*in one shape only.*rehearsal\.longer"):
        extend(graph, spec(["a", "b", "c"], texts, ["(({x} {x}) {x}) {x}:"]))


def test_a_longer_packet_is_an_ordinary_packet(tmp_path: Path) -> None:
    packet = fold_packet()
    longer = lengthen(packet)
    assert [t.template for t in longer.graph.templates] == [fold_text(n) for n in (2, 3, 4, 5)]
    assert longer.spec.held_out == [fold_text(6)] and longer.graph.n_leaves > packet.graph.n_leaves
    assert Packet.load(longer.save(tmp_path / "longer.m2kp")).graph == longer.graph
    assert len(packet.graph.templates) == 3 and lengthen(packet, 0) is packet
    with pytest.raises(SpecError, match="list longer shapes"):
        lengthen(packet, 3)


def test_rehearsed_prompts_of_a_longer_shape_are_never_evaluated() -> None:
    packet = fold_packet()
    longer = lengthen(packet).spec
    rehearsed = {p.text for p in longer.sample("rehearsal", 2000, seed=0, templates=[3])}
    evaluated = {p.text for p in longer.sample("evaluation", 2000, seed=0, templates=[3])}
    # nor by whoever holds the spec in which that shape is still held out
    held_out = {p.text for p in packet.spec.sample("evaluation", 2000, seed=1, held_out=True, templates=[0])}
    assert len(rehearsed) > 50 and evaluated and held_out == evaluated
    assert not rehearsed & evaluated
