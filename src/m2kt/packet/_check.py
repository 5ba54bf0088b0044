"""Consistency of a packet: values and shapes of tensors, tensors with the program, the program with the probe spec."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from m2kt.errors import PacketError
from m2kt.probes import ProbeSpec

from ._check_program import check_program
from ._concepts import DTYPE_KINDS as CONCEPT_KINDS
from ._json import check_printable
from ._manifest import Manifest
from ._merged import DISSENT, ORIGIN, PACKETS, SUPPORTERS, check_merged
from ._parts import TENSORS
from ._pointers import leaves
from ._program import Program
from ._tensors import Array, Arrays
from ._trace import Rule

KINDS = {  # name on disk of a tensor with a fixed meaning, to the allowed kinds of numpy's dtype
    **CONCEPT_KINDS,
    "edges_M4": "iu",
    "edges_M6": "iu",
    "weight_MLH": "f",
    "effect_M": "f",
    "causal_M": "iu",
    "where_M3": "iu",
    "states_MD": "f",
    "confidence_K": "f",
    PACKETS: "iu",
    SUPPORTERS: "iu",
    ORIGIN: "iu",
    DISSENT: "f",
}
NOT_NEGATIVE = {"support_K", "anchor_count_S", "spread_scale_Kr", "weight_MLH"}
PROBABILITIES = {"confidence_K"}
LARGEST = 1e9  # larger than any hidden state; its squares can still be summed in float32
_AXES = re.compile(r"_([A-Za-z0-9]+)$")
_HTML = re.compile(r"<[A-Za-z/!?]")


def check_packet(
    manifest: Manifest,
    program: Program,
    spec: ProbeSpec,
    tensors: dict[str, Arrays],
    where: str,
) -> None:
    """Raise PacketError on the first inconsistency."""
    check_program(program, where)
    _check_lines(manifest, where)
    if isinstance(spec.stop, list) or spec.end != program.stop:
        raise PacketError(f"{where}: the spec stops at {spec.stop!r}, the program at {program.stop!r}")
    if spec.chat is not None and spec.chat.jinja is not None:
        raise PacketError(f"{where}: the spec names a chat template; expected 'default', for each model has its own")
    if spec.examples:
        raise PacketError(f"{where}: the spec shows examples; expected none, for they are answers as text")
    check_tensors(manifest, program.symbols, program.rules, tensors, where)
    for arrays in tensors.values():
        _check_positions(arrays, program, where)
    check_merged(manifest.merged, program.n_concepts, tensors["traces.safetensors"], where)


def _check_lines(manifest: Manifest, where: str) -> None:
    """A name of several lines prints what looks like lines of our own."""
    teacher = manifest.teacher
    texts = (manifest.name, manifest.created, manifest.fallback_reason)
    for text in (*texts, teacher.name, teacher.architecture, teacher.licence, teacher.digest, *manifest.libraries):
        if text is not None and len(text.splitlines()) > 1:
            raise PacketError(f"{where}: manifest.json: {text[:40]!r} takes several lines; expected one")


def check_tensors(
    manifest: Manifest,
    symbols: Sequence[str],
    rules: Sequence[Rule],
    tensors: dict[str, Arrays],
    where: str,
) -> None:
    """Values and shapes of tensors, by part, and what they say of symbols and rules."""
    for part, arrays in tensors.items():
        for name, array in arrays.items():
            _check_values(name, array, f"{where}: {part}: {name}")
    labels = tensors["concepts.safetensors"]["pool_symbol_P"]
    sizes = {
        "K": (sum(len(rule.rows) for rule in rules), "rule rows in the program"),
        "S": (len(symbols), "symbols in the program"),
        "D": (manifest.teacher.width, "the teacher's width"),
        "L": (manifest.teacher.layers, "the teacher's blocks"),
        "P": (len(labels), "prototype samples"),
    }
    for arrays in (tensors[part] for part in TENSORS):
        _check_shapes(arrays, sizes, where)
    check_range(labels, 0, len(symbols), "pool_symbol_P", "symbols", where)
    if manifest.verbalised == 0 and any(o is not None for rule in rules for o in rule.outputs):
        raise PacketError(
            f"{where}: the manifest says that no output is verbalised, but the program has verbalised outputs"
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


def _check_positions(arrays: Arrays, program: Program, where: str) -> None:
    """Rows of edges_M4 (state, leaf, argument, rule) and where_M3 (state, trace, step)."""
    for name, columns in (("edges_M4", "edges"), ("where_M3", "states")):
        rows, what = arrays.get(name), f"{where}: {columns}"
        if rows is None or not len(rows):
            continue
        check_range(rows[:, 0], 0, len(program.states), "a row", "states", what)
        if rows[:, 1:3].min() < 0:
            raise PacketError(f"{what}: a row names a leaf, argument, trace or step that does not exist")
        if name == "edges_M4":
            n_leaves = np.array([sum(1 for _ in leaves(state.decision)) for state in program.states])
            if (rows[:, 1] >= n_leaves[rows[:, 0].astype(np.int64)]).any():
                raise PacketError(f"{what}: a row names a leaf that does not exist")
            check_range(rows[:, 3], -1, len(program.rules), "a row", "rules", what)


def check_range(values: Array, first: int, end: int, name: str, of: str, where: str) -> None:
    """Raise PacketError unless all values are in ``first..end - 1``."""
    if values.size and (values.min() < first or values.max() >= end):
        worst = values.min() if values.min() < first else values.max()
        raise PacketError(
            f"{where}: {name} names {of.removesuffix('s')} {worst}, expected {first}..{end - 1} of the {of}"
        )
