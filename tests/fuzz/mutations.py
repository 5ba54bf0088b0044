"""Mutations of a packet, by kind. Each takes a random generator and the parts, and returns other parts.

What a kind changes is small, so that most of the packet still makes sense and the change gets as far as it can.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import yaml

from m2kt.packet._json import canonical_json
from m2kt.packet._parts import GRAPH, MANIFEST, PROGRAM, SIGNATURE, SPEC, TENSORS, parts_of
from m2kt.packet._tensors import DTYPES, read_arrays, write_arrays

Parts = dict[str, bytes]
Mutation = Callable[[random.Random, Parts], Parts]

KINDS: dict[str, Mutation] = {}

NUMBERS: list[Any] = [
    0,
    1,
    -1,
    2,
    9,
    127,
    2**31,
    2**53,
    2**64,
    -(2**63),
    10**30,
    0.5,
    -0.5,
    1e9,
    1e308,
    1.0,
    True,
]
TEXTS = [
    "",
    " ",
    "a",
    "\n",
    "\0",
    "\x1b[2J",
    "\u202e",
    "\ud800",
    "é",
    "e\u0301",
    "a\u200b",
    "{x}",
    "{y}",
    "}",
    "%s",
]
TEXTS += [
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "(a+)+$",
    "> (.+)\\.",
    "null",
    "- 1",
    "&a [*a]",
    "x" * 5000,
]
SCRAPS = [
    b"\0",
    b"\xff",
    b'"',
    b"}",
    b"]",
    b"{",
    b"[",
    b",",
    b":",
    b"\n",
    b" ",
    b"NaN",
    b"1e999",
    b"\\ud800",
    b"PK\3\4",
]
SCRAPS += [
    b"\xef\xbb\xbf",
    b"&a ",
    b"*a",
    b"!!python/name:os.system ",
    b"<<: ",
    b"---\n",
    b"[" * 300,
    b"9" * 5000,
]


def kind(mutation: Mutation) -> Mutation:
    KINDS[mutation.__name__.removeprefix("_")] = mutation
    return mutation


def _skill(parts: Parts) -> str:
    """The part with the rules: of format 1 the graph, else the program."""
    return GRAPH if GRAPH in parts else PROGRAM


def _put(parts: Parts, name: str, content: bytes) -> Parts:
    return {**parts, name: content}


# -- bytes ------------------------------------------------------------------------------------------------------------
@kind
def _byte_flipped(rng: random.Random, parts: Parts) -> Parts:
    name = rng.choice(parts_of(parts))
    return _put(parts, name, flip(rng, parts[name]))


@kind
def _bytes_inserted(rng: random.Random, parts: Parts) -> Parts:
    name = rng.choice(parts_of(parts))
    content, at = parts[name], rng.randrange(len(parts[name]) + 1)
    return _put(parts, name, content[:at] + rng.choice([*SCRAPS, rng.randbytes(rng.randint(1, 16))]) + content[at:])


@kind
def _bytes_removed(rng: random.Random, parts: Parts) -> Parts:
    name = rng.choice(parts_of(parts))
    at = rng.randrange(len(parts[name]))
    return _put(parts, name, parts[name][:at] + parts[name][at + rng.choice([1, 1, 2, 8, 64, 10**9]) :])


@kind
def _bytes_moved(rng: random.Random, parts: Parts) -> Parts:
    name = rng.choice(parts_of(parts))
    content = parts[name]
    a, b, c = sorted(rng.randrange(len(content) + 1) for _ in range(3))
    return _put(parts, name, content[:a] + content[b:c] + content[a:b] + content[c:])


def flip(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= rng.randint(1, 255)
    return bytes(changed)


# -- fields -----------------------------------------------------------------------------------------------------------
@kind
def _manifest_field(rng: random.Random, parts: Parts) -> Parts:
    return _put(parts, MANIFEST, write_json(rng, alter(rng, parsed(parts[MANIFEST]))))


@kind
def _skill_field(rng: random.Random, parts: Parts) -> Parts:
    return _put(parts, _skill(parts), write_json(rng, alter(rng, parsed(parts[_skill(parts)]))))


@kind
def _spec_field(rng: random.Random, parts: Parts) -> Parts:
    data = alter(rng, parsed_yaml(parts[SPEC]))
    return _put(parts, SPEC, yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode(errors="replace"))


@kind
def _skill_and_spec_text(rng: random.Random, parts: Parts) -> Parts:
    """One text replaced in both, so that they stay consistent."""
    old = rng.choice([b"tiny", b"{x} {x}:", b"\\n", b"rule 1", b'"a"', b"'b'", b" ", b":", b"."])
    new = rng.choice([*SCRAPS, b"{x}", b"{z=x} {z=x}:", b"c", b"x" * 300])
    count = rng.choice([-1, 1])
    return parts | {name: parts[name].replace(old, new, count) for name in (_skill(parts), SPEC)}


@kind
def _signature_field(rng: random.Random, parts: Parts) -> Parts:
    envelope = parsed(parts[SIGNATURE])
    if rng.random() < 0.5:
        return _put(parts, SIGNATURE, write_json(rng, alter(rng, envelope)))
    statement = alter(rng, json.loads(base64.b64decode(envelope["payload"])))
    payload = base64.b64encode(write_json(rng, statement)).decode()
    return _put(parts, SIGNATURE, canonical_json({**envelope, "payload": payload}))


@kind
def _signature_added(rng: random.Random, parts: Parts) -> Parts:
    envelope = parsed(parts[SIGNATURE])
    more = {"keyid": rng.randbytes(32).hex(), "sig": base64.b64encode(rng.randbytes(64)).decode()}
    return _put(parts, SIGNATURE, canonical_json({**envelope, "signatures": [*envelope["signatures"], more]}))


@cache
def parsed(raw: bytes) -> Any:
    return json.loads(raw)


@cache
def parsed_yaml(raw: bytes) -> Any:
    return yaml.safe_load(raw)


def write_json(rng: random.Random, data: Any) -> bytes:
    try:
        if rng.random() < 0.1:
            return json.dumps(data).encode()
        return canonical_json(data)
    except (ValueError, TypeError):  # what canonical JSON cannot say
        return json.dumps(data, default=str).encode()


def alter(rng: random.Random, data: Any) -> Any:
    """A copy of some data with one place changed, sometimes two."""
    data = deepcopy(data)
    for _ in range(rng.choice([1, 1, 1, 2])):
        holder, key = _place(rng, data)
        if holder is None:
            return _value(rng, data)
        action = rng.random()
        if action < 0.6:
            holder[key] = _value(rng, holder[key])
        elif action < 0.75:
            del holder[key]
        elif isinstance(holder, list):
            holder.insert(rng.randrange(len(holder) + 1), deepcopy(rng.choice(holder)))
        else:
            holder[rng.choice([*TEXTS, *holder])] = deepcopy(rng.choice([*holder.values(), _value(rng, None)]))
    return data


def _place(rng: random.Random, data: Any) -> tuple[Any, Any]:
    """A random container that is not empty, with one of its keys: deep ones as often as shallow ones."""
    holder, key = None, None
    while isinstance(data, (dict, list)) and data:
        if holder is not None and rng.random() < 0.25:
            break
        holder, key = data, rng.choice([*data]) if isinstance(data, dict) else rng.randrange(len(data))
        data = holder[key]
    return holder, key


def _value(rng: random.Random, old: Any) -> Any:
    near: list[Any] = []
    if isinstance(old, int):
        near = [old + 1, old - 1, old + 0.0, str(old)]
    elif isinstance(old, str):
        near = [old + " ", old[:-1], old + old, old.upper(), [old]]
    elif isinstance(old, list):
        near = [old[::-1], old * 2, old[:1], []]
    odd = [rng.choice(NUMBERS), rng.choice(TEXTS), None, [], {}, [[]], {"do": "literal", "text": "x"}]
    return rng.choice([*near, *near, *odd])


# -- tensors ----------------------------------------------------------------------------------------------------------
@cache
def _arrays(raw: bytes) -> dict[str, np.ndarray[Any, Any]]:
    return read_arrays(raw, "")


@kind
def _tensor_value(rng: random.Random, parts: Parts) -> Parts:
    part = rng.choice(TENSORS)
    arrays = dict(_arrays(parts[part]))
    name = rng.choice(sorted(arrays))
    array = arrays[name] = arrays[name].copy()
    odd = [0, 1, -1, 3, 100] + ([float("nan"), float("inf"), 3e38, 1e9, 1e-45] if array.dtype.kind == "f" else [127])
    where = rng.randrange(array.size) if rng.random() < 0.7 else slice(None)
    array.reshape(-1)[where] = rng.choice(odd)
    return _put(parts, part, write_arrays(arrays, part))


@kind
def _tensor_shape(rng: random.Random, parts: Parts) -> Parts:
    part = rng.choice(TENSORS)
    arrays = dict(_arrays(parts[part]))
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    changes: list[Callable[[], Any]] = [
        lambda: array[:-1],
        lambda: array[:0],
        lambda: np.concatenate([array, array]),
        lambda: array[::-1],
        lambda: array.reshape(1, -1),
        lambda: array.T,
        lambda: array.astype(rng.choice([*DTYPES.values()])),
    ]
    with np.errstate(all="ignore"):
        arrays[name] = rng.choice(changes)()
    if rng.random() < 0.2:
        del arrays[name]
    elif rng.random() < 0.2:
        arrays[rng.choice(["x_K", "vectors_KD", "extra_KD", "more_xx", "edges_M4", "where_M3"])] = arrays.pop(name)
    return _put(parts, part, write_arrays(arrays, part))


@kind
def _tensor_header(rng: random.Random, parts: Parts) -> Parts:
    part = rng.choice(TENSORS)
    raw = parts[part]
    length = int.from_bytes(raw[:8], "little")
    header = alter(rng, json.loads(raw[8 : 8 + length]))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    declared = len(text) if rng.random() < 0.8 else rng.choice([0, 1, 2**16, 2**31, 2**63, 2**64 - 1])
    return _put(parts, part, declared.to_bytes(8, "little") + text + raw[8 + length :])


@kind
def _rows_together(rng: random.Random, parts: Parts) -> Parts:
    """A row removed or doubled in the program and in all tensors that hold one a concept, so that counts still fit."""
    skill, arrays = deepcopy(parsed(parts[_skill(parts)])), dict(_arrays(parts[TENSORS[0]]))
    rule = skill["rules"][0]
    k = rng.randrange(len(rule["rows"]))
    keep = [i for i in range(len(rule["rows"])) if i != k]
    if rng.random() < 0.3:
        keep = []
    elif rng.random() < 0.3:
        keep = [*keep, k, k]
    rule["rows"] = [rule["rows"][i] for i in keep]
    rule["outputs"] = [rule["outputs"][i] for i in keep]
    for name in ("vectors_KD", "spread_basis_KrD", "spread_scale_Kr", "support_K"):
        arrays[name] = arrays[name][keep]
    return parts | {_skill(parts): canonical_json(skill), TENSORS[0]: write_arrays(arrays, "")}


@kind
def _pool_emptied(rng: random.Random, parts: Parts) -> Parts:
    arrays = dict(_arrays(parts[TENSORS[0]]))
    n = rng.randrange(4)
    arrays["pool_PD"], arrays["pool_symbol_P"] = arrays["pool_PD"][:n], arrays["pool_symbol_P"][:n]
    return _put(parts, TENSORS[0], write_arrays(arrays, ""))


# -- structure --------------------------------------------------------------------------------------------------------
@kind
def _parts_exchanged(rng: random.Random, parts: Parts) -> Parts:
    a, b = rng.sample(parts_of(parts), 2)
    return parts | {a: parts[b], b: parts[a]}


@kind
def _part_replaced(rng: random.Random, parts: Parts) -> Parts:
    return _put(parts, rng.choice(parts_of(parts)), rng.choice([b"", b"{}\n", b"[]\n", b"null\n", *SCRAPS]))
