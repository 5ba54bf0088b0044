"""Rows of the catalogue from a verified packet or statement.

``Packet.digest`` hashes the manifest on each access, so functions take the digest as an argument.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import numpy as np

from m2kt.packet import Packet, Statement

from .._records import PacketPublished, is_plain
from ._models import MAX_SPACE, MAX_TEXT, FormRow, LabelRow, PacketRow, StatementRow, VectorsRow


def packet_row(packet: Packet, record: PacketPublished) -> PacketRow:
    """The row of a packet, before its forms are known."""
    manifest, fidelity = packet.manifest, packet.manifest.fidelity
    measured = fidelity.agreement is not None and fidelity.coverage is not None
    return PacketRow(
        digest=record.packet,
        blob=record.blob,
        size=record.size,
        published_at=record.at,
        publisher=record.by,
        state="listed",
        skill=manifest.name[:MAX_TEXT],
        description=packet.spec.description or "",
        teacher=manifest.teacher.name[:MAX_TEXT],
        teacher_digest=manifest.teacher.digest[:MAX_TEXT],
        architecture=manifest.teacher.architecture,
        licence=manifest.teacher.licence and manifest.teacher.licence[:MAX_TEXT],
        space=packet.space[:MAX_SPACE],
        width=manifest.teacher.width,
        concepts=packet.n_concepts,
        verbalised=manifest.verbalised,
        fidelity=(fidelity.agreement or 0.0) * (fidelity.coverage or 0.0) if measured else None,
        manifest=manifest.model_dump(mode="json"),
        card=packet.card,
    )


def form_row(packet: Packet, record: PacketPublished) -> FormRow:
    """The row of one single-file form; a loaded packet has at least one signer."""
    assert packet.signature is not None
    return FormRow(
        blob=record.blob,
        packet=record.packet,
        author=packet.signature.keyid,
        keyids=sorted(packet.signature.keyids),
        release=0 if packet.signature.release is None else packet.signature.release.number,
        size=record.size,
        at=record.at,
        by=record.by,
    )


def label_rows(packet: Packet, digest: str) -> list[LabelRow]:
    """The rows of a packet's searchable texts, without duplicates within a kind."""
    manifest = packet.manifest
    labels_by_kind = {
        "skill": [manifest.name],
        "teacher": [manifest.teacher.name],
        "rule": [rule.name for rule in packet.program.rules],
        "symbol": list(packet.program.symbols),
    }
    return [
        LabelRow(packet=digest, kind=kind, text=label, folded=label.casefold())
        for kind, labels in labels_by_kind.items()
        for label in sorted({label[:MAX_TEXT] for label in labels})
    ]


def vectors_row(packet: Packet, digest: str) -> VectorsRow:
    """The row of a packet's concept vectors. A concept's name is its rule and arguments, without the output."""
    program = packet.program
    rows = ((rule.name, row) for rule in program.rules for row in rule.rows)
    names = [f"{name}({', '.join(program.symbols[a] for a in row)})" for name, row in rows]
    vectors_KD = np.ascontiguousarray(packet.concepts.vectors_KD, dtype="<f4")
    return VectorsRow(packet=digest, space=packet.space[:MAX_SPACE], vectors_KD=vectors_KD.tobytes(), names=names)


def statement_row(statement: Statement, digest: str, envelope: str, at: str, by: str) -> StatementRow:
    """The row of a statement. Fields of the untrusted predicate that have another type become None."""
    predicate = statement.predicate
    base, after = _mapping(predicate.get("base_model")), _mapping(predicate.get("after"))
    return StatementRow(
        digest=digest,
        packet=statement.packet,
        kind=statement.predicate_type,
        at=at,
        by=by,
        keyids=sorted(statement.keyids),
        verdict=_verdict(predicate),
        student=_text(base.get("name")) or _text(predicate.get("student")),
        student_digest=_text(base.get("digest")) or _text(predicate.get("student_digest")),
        adapter=_text(after.get("adapter")),
        accuracy=_proportion(after.get("accuracy", predicate.get("accuracy"))),
        envelope=envelope,
    )


def predicate_of(row: StatementRow) -> dict[str, object]:
    """The predicate of a stored statement."""
    payload = base64.b64decode(json.loads(row.envelope)["payload"])
    return dict(json.loads(payload)["predicate"])


def _verdict(predicate: Mapping[str, object]) -> str | None:
    verdict, clean = predicate.get("verdict"), predicate.get("clean")
    if verdict in ("accepted", "rejected"):
        return str(verdict)
    if isinstance(clean, bool):
        return "clean" if clean else "unclean"
    return None


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value[:MAX_TEXT] if isinstance(value, str) and is_plain(value) else None


def _proportion(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None
