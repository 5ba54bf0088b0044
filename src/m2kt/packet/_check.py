"""Consistency of a packet: values and shapes of tensors, tensors with the graph, the graph with the probe spec."""

from __future__ import annotations

import re

import numpy as np

from m2kt.errors import PacketError
from m2kt.probes import ProbeSpec

from ._check_graph import check_against_spec, check_graph
from ._concepts import DTYPE_KINDS as CONCEPT_KINDS
from ._graph import Graph
from ._json import check_printable
from ._manifest import Manifest
from ._parts import TENSORS
from ._tensors import Array, Arrays

KINDS = {  # name on disk of a tensor with a fixed meaning, to the allowed kinds of numpy's dtype
    **CONCEPT_KINDS,
    "edges_M6": "iu",
    "weight_MLH": "f",
    "effect_M": "f",
    "causal_M": "iu",
    "where_M3": "iu",
    "states_MD": "f",
    "confidence_K": "f",
}
NOT_NEGATIVE = {"support_K", "anchor_count_S", "spread_scale_Kr", "weight_MLH"}
PROBABILITIES = {"confidence_K"}
LARGEST = 1e9  # larger than any hidden state; its squares can still be summed in float32
_AXES = re.compile(r"_([A-Za-z0-9]+)$")
_HTML = re.compile(r"<[A-Za-z/!?]")


def check_packet(
    manifest: Manifest,
    graph: Graph,
    spec: ProbeSpec,
    tensors: dict[str, Arrays],
    where: str,
) -> None:
    """Raise PacketError on the first inconsistency."""
    for part, arrays in tensors.items():
        for name, array in arrays.items():
            _check_values(name, array, f"{where}: {part}: {name}")
    check_graph(graph, where)
    check_against_spec(graph, spec, where)
    labels = tensors["concepts.safetensors"]["pool_symbol_P"]
    sizes = {
        "K": (graph.n_concepts, "rule rows in the graph"),
        "S": (len(graph.symbols), "symbols in the graph"),
        "D": (manifest.teacher.width, "the teacher's width"),
        "L": (manifest.teacher.layers, "the teacher's blocks"),
        "P": (len(labels), "prototype samples"),
    }
    for arrays in (tensors[part] for part in TENSORS):
        _check_shapes(arrays, sizes, where)
    _check_range(labels, 0, len(graph.symbols), "pool_symbol_P", "symbols", where)
    for name, columns in (("edges_M6", "edges"), ("where_M3", "states")):
        for arrays in tensors.values():
            if name in arrays:
                _check_positions(arrays[name], graph, f"{where}: {columns}")
    if manifest.verbalised == 0 and any(o is not None for rule in graph.rules for o in rule.outputs):
        raise PacketError(
            f"{where}: the manifest says that no output is verbalised, but the graph has verbalised outputs"
        )
    if manifest.embedding.layer > manifest.teacher.layers:
        raise PacketError(f"{where}: vectors of layer {manifest.embedding.layer}, but the teacher has fewer")


def check_card(raw: bytes, what: str) -> None:
    """Raise PacketError unless the card is plain text without HTML, which a page may show to people."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise PacketError(f"{what} is not UTF-8 ({error}); the packet is damaged") from error
    check_printable(text, what)
    if tag := _HTML.search(text):
        raise PacketError(f"{what} holds HTML at {tag.start()}; expected plain Markdown")


def _check_values(name: str, array: Array, what: str) -> None:
    if array.dtype.kind not in "fiub":
        raise PacketError(f"{what} has type {array.dtype}; expected numbers")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise PacketError(f"{what} holds values that are not finite (NaN or infinity); the packet is damaged")
        if array.size and max(float(array.max()), -float(array.min())) > LARGEST:
            raise PacketError(f"{what} holds values beyond {LARGEST:g}, larger than any hidden state")
    if name in NOT_NEGATIVE and array.size and array.min() < 0:
        raise PacketError(f"{what} holds negative values; expected none")
    if name in PROBABILITIES and array.size and (array.min() < 0 or array.max() > 1):
        raise PacketError(f"{what} holds {array.min():g} to {array.max():g}; expected probabilities")
    kinds = KINDS.get(name)
    if kinds is not None and array.dtype.kind not in kinds:
        raise PacketError(f"{what} has type {array.dtype}, expected {'floats' if kinds == 'f' else 'integers'}")


def _check_shapes(arrays: Arrays, known: dict[str, tuple[int, str]], where: str) -> None:
    """The suffix of a name is its shape: a letter is one size within a part, a digit is itself, x is any size."""
    sizes = dict(known)
    for name, array in sorted(arrays.items()):
        match = _AXES.search(name)
        if match is None or len(match.group(1)) != array.ndim:
            raise PacketError(f"{where}: {name} has {array.ndim} axes; expected one for each letter of its suffix")
        for axis, letter in enumerate(match.group(1)):
            if letter == "x":
                continue
            size = array.shape[axis]
            default = (int(letter), "fixed") if letter.isdigit() else (size, f"as in {name}")
            expected, source = sizes.setdefault(letter, default)
            if size != expected:
                raise PacketError(
                    f"{where}: {name} has shape {array.shape}, expected {expected} at axis {axis} ({letter}: {source})"
                )


def _check_positions(rows: Array, graph: Graph, what: str) -> None:
    """Rows of edges_M6 (template, node, argument, source, read, rule) or where_M3 (template, trace, node)."""
    if not len(rows):
        return
    template, edges = rows[:, 0], rows.shape[1] == 6
    _check_range(template, 0, len(graph.templates), "a row", "templates", what)
    nodes = np.array([len(t.nodes) for t in graph.templates])[template.astype(np.int64)]
    node = rows[:, 1 if edges else 2]
    if rows[:, 1:5].min() < 0 or (node >= nodes).any():
        raise PacketError(f"{what}: a row names a node, unit or trace that does not exist")
    if edges:
        _check_range(rows[:, 5], -1, len(graph.rules), "a row", "rules", what)


def _check_range(values: Array, first: int, end: int, name: str, of: str, where: str) -> None:
    if values.size and (values.min() < first or values.max() >= end):
        worst = values.min() if values.min() < first else values.max()
        raise PacketError(
            f"{where}: {name} names {of.removesuffix('s')} {worst}, expected {first}..{end - 1} of the {of}"
        )
