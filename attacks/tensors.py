"""Attacks by the tensor files. All are signed by the attacker."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from m2kt.packet._tensors import read_arrays, write_arrays

from ._forge import Parts, parts_attack

CONCEPTS = "concepts.safetensors"
ATTENTION = "attention.safetensors"
TRACES = "traces.safetensors"

Header = dict[str, Any]


def _header(change: Callable[[Header], Header | None], length: int | None = None) -> Callable[[Parts], Parts]:
    """The concepts' header changed, their numbers unchanged."""

    def apply(parts: Parts) -> Parts:
        raw = parts[CONCEPTS]
        size = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + size])
        text = json.dumps(change(header) or header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        declared = len(text) if length is None else length
        return parts | {CONCEPTS: declared.to_bytes(8, "little") + text + raw[8 + size :]}

    return apply


def _entry(name: str, **values: Any) -> Callable[[Header], None]:
    return lambda header: header[name].update(values)


def _array(part: str, name: str, change: Callable[[np.ndarray[Any, Any]], Any]) -> Callable[[Parts], Parts]:
    def apply(parts: Parts) -> Parts:
        arrays = read_arrays(parts[part], part)
        changed = change(arrays[name])
        arrays[name] = arrays[name] if changed is None else changed
        return parts | {part: write_arrays(arrays, part)}

    return apply


def _added(part: str, name: str, array: np.ndarray[Any, Any]) -> Callable[[Parts], Parts]:
    return lambda parts: parts | {part: write_arrays({**read_arrays(parts[part], part), name: array}, part)}


def _first(value: float) -> Callable[[np.ndarray[Any, Any]], None]:
    return lambda array: array.reshape(-1).__setitem__(0, value)


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Parts], Parts]:
    return lambda parts: parts | {CONCEPTS: change(parts[CONCEPTS])}


def _same(header: Header) -> None:
    return None


def _key_twice(raw: bytes) -> bytes:
    size = int.from_bytes(raw[:8], "little")
    text = raw[8 : 8 + size].rstrip()
    text = b'{"support_K":{"dtype":"I64","shape":[9],"data_offsets":[0,72]},' + text[1:]
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + raw[8 + size :]


for name, tries, refusal, change in (
    ("header-huge", "a header of 2^63 bytes, allocated before it is checked", "a header of", _header(_same, 2**63)),
    ("header-beyond-file", "a header that ends after the file", "a header of", _header(_same, 60_000)),
    ("header-deep", "a header nested ten thousand deep", "nested deeper", _bytes(lambda raw: (20_000).to_bytes(8, "little") + b"[" * 20_000)),
    ("header-not-json", "a header that is no JSON", "not JSON", _bytes(lambda raw: (8).to_bytes(8, "little") + b"nonsense")),
    ("header-key-twice", "a tensor described twice: readers pick different ones", "canonical", _bytes(_key_twice)),
    ("header-metadata", "free text in the header", "no name of a tensor", _header(lambda h: {"__metadata__": {"a": "b"}, **h})),
    ("header-foreign-key", "a key that no reader knows", "expected dtype, shape", _header(_entry("vectors_KD", comment="x"))),
    ("tensors-overlap", "two tensors over the same bytes", "canonical", _header(_entry("pool_PD", data_offsets=[0, 96]))),
    ("tensors-hole", "bytes that belong to no tensor", "canonical", _header(_entry("vectors_KD", data_offsets=[656, 800]))),
    ("tensors-trailing", "bytes after the last tensor", "damaged", _bytes(lambda raw: raw + b"hidden")),
    ("tensors-cut", "numbers cut off", "damaged", _bytes(lambda raw: raw[:-4])),
    ("tensors-too-many", "ten thousand tensors", "at most|a header of", _header(lambda h: {f"x_{i}": {} for i in range(5000)})),
    ("shape-overflow", "sizes whose product overflows 64 bits to the right number", "sizes up to", _header(_entry("vectors_KD", shape=[2**62, 4]))),
    ("shape-huge", "a billion concepts in a file of a kilobyte", "numbers", _header(_entry("vectors_KD", shape=[10**9, 4]))),
    ("shape-empty", "sizes that no array can have, hidden by a size of 0", "numbers", _header(lambda h: h | {"made_xxxx": {"dtype": "F64", "shape": [2**31 - 1] * 3 + [0], "data_offsets": [0, 0]}})),
    ("shape-negative", "a negative size", "sizes up to", _header(_entry("vectors_KD", shape=[-9, -4]))),
    ("shape-many-axes", "more axes than there can be", "sizes up to", _header(_entry("vectors_KD", shape=[1] * 1000))),
    ("type-unknown", "a type that numpy does not have", "has type", _header(_entry("vectors_KD", dtype="BF16"))),
    ("type-object", "Python objects instead of numbers", "has type", _header(_entry("vectors_KD", dtype="O"))),
    ("type-wrong", "integers instead of floats", "expected floats", _array(CONCEPTS, "vectors_KD", lambda a: a.astype(np.int32))),
    ("not-a-number", "NaN, which spreads to all weights of a student", "not finite", _array(CONCEPTS, "vectors_KD", _first(float("nan")))),
    ("infinity", "infinity", "not finite", _array(ATTENTION, "weight_MLH", _first(float("inf")))),
    ("huge-values", "values whose squares are infinite", "beyond", _array(CONCEPTS, "vectors_KD", _first(3e38))),
    ("rows-short", "fewer vectors than rules have rows", "expected 9 at axis 0", _array(CONCEPTS, "vectors_KD", lambda a: a[:-1])),
    ("width-wrong", "vectors of another width than the teacher's", "at axis 1", _array(CONCEPTS, "pool_PD", lambda a: a[:, :-1])),
    ("label-out-of-range", "a state labelled with a symbol that does not exist", "names symbol", _array(CONCEPTS, "pool_symbol_P", _first(99))),
    ("label-negative", "a negative label, which counts from the end in Python", "names symbol", _array(CONCEPTS, "pool_symbol_P", _first(-1))),
    ("support-negative", "a count below zero", "negative", _array(CONCEPTS, "support_K", _first(-5))),
    ("confidence-of-more-than-one", "a confidence of 2, so that no row has low confidence", "probabilities", _added(TRACES, "confidence_K", np.full(9, 2, np.float32))),
    ("edge-out-of-range", "an attention edge at a state that does not exist", "names state", _array(ATTENTION, "edges_M4", _first(99))),
    ("edge-negative-leaf", "an attention edge at a negative leaf", "does not exist", _array(ATTENTION, "edges_M4", lambda a: a.reshape(-1).__setitem__(1, -1))),
):  # fmt: skip
    parts_attack(name, tries, refusal, change)
