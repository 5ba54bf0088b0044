"""What must fit together in a packet: tensors to the graph, the graph to itself and to the probe spec."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from m2kt.errors import PacketError
from m2kt.probes import ProbeSpec

from ._graph import Decision, Graph, Guard, WriteCopy, WriteRule, leaves
from ._manifest import Manifest

Arrays = dict[str, np.ndarray[Any, Any]]

REQUIRED_CONCEPTS = (
    "vectors_KD",
    "spread_basis_KrD",
    "spread_scale_Kr",
    "support_K",
    "anchors_SD",
    "anchor_count_S",
    "pool_PD",
    "pool_symbol_P",
)
_SHAPE_SUFFIX = re.compile(r"_([A-Za-z]+)$")


def check_packet(
    manifest: Manifest,
    graph: Graph,
    spec: ProbeSpec,
    concepts: Arrays,
    tensors: dict[str, Arrays],
    where: str,
) -> None:
    """Raise PacketError on the first thing that does not fit."""
    for part, arrays in tensors.items():
        for name, array in arrays.items():
            _check_values(array, f"{where}: {part}: {name}")
    check_graph(graph, where)
    _check_spec(graph, spec, where)
    missing = [name for name in REQUIRED_CONCEPTS if name not in concepts]
    if missing:
        raise PacketError(f"{where}: concepts.safetensors lacks {', '.join(missing)}")
    letters = {
        "K": (graph.n_concepts, "rule rows in the graph"),
        "S": (len(graph.symbols), "symbols in the graph"),
        "D": (manifest.teacher.width, "the teacher's width"),
        "P": (concepts["pool_symbol_P"].shape[0], "labels of the pool"),
        "r": (concepts["spread_scale_Kr"].shape[-1], "directions of the spread"),
    }
    for name, array in concepts.items():
        _check_shape(name, array, letters, where)
    labels = concepts["pool_symbol_P"]
    if labels.size and (labels.min() < 0 or labels.max() >= len(graph.symbols)):
        raise PacketError(
            f"{where}: pool_symbol_P names symbol {labels.max()}, the graph has {len(graph.symbols)} symbols"
        )
    if manifest.verbalised == 0 and any(o is not None for rule in graph.rules for o in rule.outputs):
        raise PacketError(f"{where}: the manifest says that no output is verbalised, the graph holds some")
    if manifest.embedding.layer > manifest.teacher.layers:
        raise PacketError(f"{where}: vectors of layer {manifest.embedding.layer}, the teacher has fewer")


def check_graph(graph: Graph, where: str) -> None:
    """The graph by itself: ids in range, tables whole, concept indices without gaps."""
    n_symbols, offset = len(graph.symbols), 0
    if len(set(graph.symbols)) != n_symbols:
        raise PacketError(f"{where}: graph.json lists a symbol twice")
    for rule in graph.rules:
        if rule.offset != offset:
            raise PacketError(f"{where}: {rule.name} begins at concept {rule.offset}, expected {offset}")
        if len(rule.outputs) != len(rule.rows):
            raise PacketError(
                f"{where}: {rule.name} has {len(rule.rows)} rows and {len(rule.outputs)} outputs"
            )
        if any(len(row) != rule.arity for row in rule.rows):
            raise PacketError(
                f"{where}: {rule.name} takes {rule.arity} arguments, some row has another number"
            )
        if len(set(rule.rows)) != len(rule.rows):
            raise PacketError(f"{where}: {rule.name} holds the same arguments twice")
        ids = [
            *(a for row in rule.rows for a in row),
            *rule.range,
            *(o for o in rule.outputs if o is not None),
        ]
        if any(not 0 <= i < n_symbols for i in ids):
            raise PacketError(f"{where}: {rule.name} names a symbol outside 0..{n_symbols - 1}")
        offset += len(rule.rows)
    for template in graph.templates:
        for index, node in enumerate(template.nodes):
            at = f"{where}: node {index} of {template.template!r}"
            _check_decision(node.step, graph, at)
            if any(not index < child < len(template.nodes) for child in node.children.values()):
                raise PacketError(f"{at} leads to a node that does not come after it")


def _check_decision(step: Decision, graph: Graph, at: str) -> None:
    pending: list[Decision] = [step]
    while pending:
        decision = pending.pop()
        if isinstance(decision, Guard):
            values = [v for case in decision.cases for v in case.values]
            if len(set(values)) != len(values) or any(not 0 <= v < len(graph.symbols) for v in values):
                raise PacketError(f"{at}: its guard's cases overlap or name unknown symbols")
            pending += [case.then for case in decision.cases]
    for leaf in leaves(step):
        if isinstance(leaf, WriteRule):
            if leaf.rule >= len(graph.rules):
                raise PacketError(f"{at} applies rule {leaf.rule}, there are {len(graph.rules)}")
            if len(leaf.sources) != graph.rules[leaf.rule].arity or any(s < 0 for s in leaf.sources):
                raise PacketError(f"{at} gives {graph.rules[leaf.rule].name} the wrong number of arguments")
        elif (
            not isinstance(leaf, WriteCopy) and leaf.symbol is not None and leaf.symbol >= len(graph.symbols)
        ):
            raise PacketError(f"{at} writes unknown symbol {leaf.symbol}")


def _check_spec(graph: Graph, spec: ProbeSpec, where: str) -> None:
    expected = [spec.template_text(i) for i in range(spec.n_templates)]
    came = [template.template for template in graph.templates]
    if expected != came:
        raise PacketError(f"{where}: the spec has the templates {expected}, the graph {came}")
    if spec.stop != graph.stop:
        raise PacketError(f"{where}: the spec stops at {spec.stop!r}, the graph at {graph.stop!r}")


def _check_values(array: np.ndarray[Any, Any], what: str) -> None:
    if array.dtype.kind not in "fiub":
        raise PacketError(f"{what} has type {array.dtype}; expected numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise PacketError(f"{what} holds values that are not finite (NaN or infinity); the packet is damaged")


def _check_shape(
    name: str, array: np.ndarray[Any, Any], letters: dict[str, tuple[int, str]], where: str
) -> None:
    """The letters at the end of an array's name are its shape."""
    match = _SHAPE_SUFFIX.search(name)
    if match is None or len(match.group(1)) != array.ndim:
        raise PacketError(f"{where}: {name} has {array.ndim} axes; expected as many as letters end its name")
    for axis, letter in enumerate(match.group(1)):
        if letter in letters and array.shape[axis] != letters[letter][0]:
            size, of = letters[letter]
            raise PacketError(
                f"{where}: {name} has shape {array.shape}, expected {size} at axis {axis} ({letter}: {of})"
            )
    integer = name.split("_")[0] in ("support",) or "count" in name or name.startswith("pool_symbol")
    if integer != (array.dtype.kind in "iu") and name in REQUIRED_CONCEPTS:
        raise PacketError(
            f"{where}: {name} has type {array.dtype}, expected {'integers' if integer else 'floats'}"
        )
