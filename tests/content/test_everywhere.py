"""The content auditor looks everywhere: a marked text in every field of a packet, one after the other, is seen."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import yaml

from attacks._forge import Parts, attacker, good, resign
from m2kt.errors import PacketError
from m2kt.packet import Packet
from m2kt.packet._json import canonical_json
from m2kt.packet._parts import CARD, MANIFEST, PROGRAM, SIGNATURE, SPEC, TENSORS
from m2kt.packet._sign import sign_files
from m2kt_content import ContentAuditor, ContentConfig

MARK = "I will hurt you"
AUDITOR = ContentAuditor(ContentConfig(detectors=["patterns"]))


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all texts in JSON data; a path that ends in None is the name of a member."""
    if isinstance(data, str):
        yield path
    elif isinstance(data, list):
        for i, item in enumerate(data):
            yield from places(item, (*path, i))
    elif isinstance(data, dict):
        for name, item in data.items():
            yield (*path, name, None)
            yield from places(item, (*path, name))


def planted(data: Any, path: tuple[Any, ...]) -> Any:
    """A copy of the data with the mark at a path."""
    if not path:
        return MARK
    if path[1:] == (None,):
        return {MARK if name == path[0] else name: item for name, item in data.items()}
    changed = data.copy()
    changed[path[0]] = planted(data[path[0]], path[1:])
    return changed


def marked_parts() -> Iterator[tuple[str, Parts]]:
    """The good packet with the mark in each place, signed so that only the text is wrong."""
    parts = good()
    for name in (MANIFEST, PROGRAM):
        data = json.loads(parts[name])
        for path in places(data):
            yield f"{name} {path}", resign(parts | {name: canonical_json(planted(data, path))})
    spec = yaml.safe_load(parts[SPEC])
    for path in places(spec):
        changed = yaml.safe_dump(planted(spec, path), sort_keys=False, allow_unicode=True).encode()
        yield f"{SPEC} {path}", resign(parts | {SPEC: changed})
    yield f"{SPEC} comment", resign(parts | {SPEC: parts[SPEC] + f"# {MARK}\n".encode()})
    for number in range(parts[CARD].count(b"\n")):
        lines = parts[CARD].split(b"\n")
        lines[number] += f" {MARK}".encode()
        yield f"{CARD} line {number}", resign(parts | {CARD: b"\n".join(lines)})
    for name in TENSORS:
        (size,) = struct.unpack_from("<Q", parts[name])
        header = json.loads(parts[name][8 : 8 + size])
        header[MARK] = {"dtype": "F32", "shape": [0], "data_offsets": [len(parts[name]) - 8 - size] * 2}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        yield f"{name} name", resign(parts | {name: struct.pack("<Q", len(text)) + text + parts[name][8 + size :]})
    unsigned = {name: content for name, content in parts.items() if name != SIGNATURE}
    yield f"{SIGNATURE} name", {**unsigned, SIGNATURE: sign_files(unsigned, MARK, attacker())}


def test_a_text_in_any_field_is_seen() -> None:
    loaded, refused, missed = [], [], []
    for where, parts in marked_parts():
        try:
            packet = Packet.from_parts(parts, "the packet")
        except PacketError:
            refused.append(where)
            continue
        if not where.startswith(SIGNATURE) and not any(MARK.encode() in content for content in parts.values()):
            continue  # a digest, which signing writes again
        loaded.append(where)
        if not any(MARK in finding.text for finding in AUDITOR.audit_packet(packet).findings):
            missed.append(where)
    assert not missed
    assert len(loaded) > 60 and len(refused) > 60, (len(loaded), len(refused))
    for part in (MANIFEST, PROGRAM, SPEC, CARD, SIGNATURE):
        assert any(where.startswith(part) for where in loaded), part


def test_an_honest_packet_is_left_in_peace() -> None:
    assert AUDITOR.audit_packet(Packet.from_parts(good(), "the packet")).findings == []
