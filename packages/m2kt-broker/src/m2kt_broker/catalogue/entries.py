"""From a verified packet or statement to the rows that find it.

A packet works its digest out anew each time it is asked, hence the ``digest`` that is passed along.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from m2kt.packet import Packet, Statement

from ..records import Published
from ..texts import is_plain
from .models import SHOWN, SPACE, LabelRow, PacketRow, SignerRow, StatementRow, VectorsRow


def packet_row(packet: Packet, record: Published) -> PacketRow:
    """A packet's row, with who signed it."""
    manifest, fidelity = packet.manifest, packet.manifest.fidelity
    known = fidelity.agreement is not None and fidelity.coverage is not None
    return PacketRow(
        digest=record.packet,
        blob=record.blob,
        size=record.size,
        published_at=record.at,
        publisher=record.by,
        state="listed",
        skill=manifest.name[:SHOWN],
        description=packet.spec.description or "",
        teacher=manifest.teacher.name[:SHOWN],
        teacher_digest=manifest.teacher.digest[:SHOWN],
        architecture=manifest.teacher.architecture,
        licence=manifest.teacher.licence and manifest.teacher.licence[:SHOWN],
        space=packet.space[:SPACE],
        width=manifest.teacher.width,
        concepts=packet.n_concepts,
        verbalised=manifest.verbalised,
        fidelity=(fidelity.agreement or 0.0) * (fidelity.coverage or 0.0) if known else None,
        manifest=manifest.model_dump(mode="json"),
        card=packet.card,
        signers=signer_rows(packet, record.packet),
    )


def signer_rows(packet: Packet, digest: str) -> list[SignerRow]:
    """Who signed; a packet that was loaded has a signature."""
    assert packet.signature is not None
    writer = packet.signature.keyid
    return [SignerRow(packet=digest, keyid=k, writer=k == writer) for k in sorted(packet.signature.keyids)]


def label_rows(packet: Packet, digest: str) -> list[LabelRow]:
    """The words that find a packet, each once a kind."""
    manifest = packet.manifest
    found = {
        "skill": [manifest.name],
        "teacher": [manifest.teacher.name],
        "rule": [rule.name for rule in packet.graph.rules],
        "symbol": list(packet.graph.symbols),
    }
    return [
        LabelRow(packet=digest, kind=kind, text=label, folded=label.casefold())
        for kind, labels in found.items()
        for label in sorted({label[:SHOWN] for label in labels})
    ]


def vectors_row(packet: Packet, digest: str) -> VectorsRow:
    """Concept vectors and what each stands for: its rule and arguments. What it writes is the student's to read."""
    graph = packet.graph
    names = [
        f"{rule.name}({', '.join(graph.symbols[a] for a in row)})"
        for rule in graph.rules
        for row in rule.rows
    ]
    vectors_KD = np.ascontiguousarray(packet.concepts.vectors_KD, dtype="<f4")
    return VectorsRow(packet=digest, space=packet.space[:SPACE], vectors_KD=vectors_KD.tobytes(), names=names)


def statement_row(statement: Statement, digest: str, envelope: str, at: str, by: str) -> StatementRow:
    """A statement's row. Its predicate is a stranger's: what is of an unexpected kind is left out."""
    said = statement.predicate
    base, after = _dict(said.get("base_model")), _dict(said.get("after"))
    return StatementRow(
        digest=digest,
        packet=statement.packet,
        kind=statement.predicate_type,
        at=at,
        by=by,
        keyids=sorted(statement.keyids),
        verdict=_verdict(said),
        student=_text(base.get("name")) or _text(said.get("student")),
        student_digest=_text(base.get("digest")) or _text(said.get("student_digest")),
        adapter=_text(after.get("adapter")),
        accuracy=_share(after.get("accuracy", said.get("accuracy"))),
        envelope=envelope,
    )


def _verdict(said: dict[str, Any]) -> str | None:
    if said.get("verdict") in ("accepted", "rejected"):
        return str(said["verdict"])
    if isinstance(said.get("clean"), bool):
        return "clean" if said["clean"] else "unclean"
    return None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value[:SHOWN] if isinstance(value, str) and is_plain(value) else None


def _share(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def predicate_of(row: StatementRow) -> dict[str, Any]:
    """What a stored statement says."""
    payload = base64.b64decode(json.loads(row.envelope)["payload"])
    return dict(json.loads(payload)["predicate"])
