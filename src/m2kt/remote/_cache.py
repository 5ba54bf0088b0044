"""Packets that were fetched, under ``M2KT_HOME/packets``, and revocations, under ``M2KT_HOME/revoked``."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from m2kt._home import m2kt_home
from m2kt.errors import PacketError, StorageError, TrustError, explain
from m2kt.packet import Packet, read_notice

OFFLINE = "M2KT_OFFLINE"
"""Environment variable: 1 uses cached packets alone and sends no request."""

_UNSAFE = re.compile(r"[^A-Za-z0-9]+")


def offline() -> bool:
    """Whether no request may be sent."""
    return os.environ.get(OFFLINE, "").lower() in ("1", "true", "yes")


def cached(kind: str, name: str) -> Path:
    """Path of a cached packet.

    Args:
        kind: scheme of its reference.
        name: rest of its reference, any text.
    """
    readable = _UNSAFE.sub("-", name).strip("-")[-40:]
    return m2kt_home() / "packets" / f"{kind}-{readable}-{hashlib.sha256(name.encode()).hexdigest()[:16]}.m2kp"


def remember_revoked(digest: str, broker: str, envelope: bytes) -> None:
    """Records a signed revocation. Each has a file of its own, so that none replaces another."""
    path = _records(digest) / f"{hashlib.sha256(envelope).hexdigest()[:16]}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"packet": digest, "broker": broker, "envelope": envelope.decode()}))
    except OSError as error:
        raise StorageError(f"cannot write {path}: {explain(error)}; set M2KT_HOME to another directory") from error


def refuse_remembered(packet: Packet, broker: str | None) -> None:
    """Raises TrustError for a packet with a recorded revocation that counts.

    That of its author counts for ever, wherever the packet comes from. That of another (an admin of a broker) counts
    for users of that broker: whoever runs a broker may refuse a packet there, and nowhere else.

    Args:
        broker: the address of the broker in use, if any.
    """
    author = None if packet.signature is None else packet.signature.keyid
    _refuse_remembered(packet.digest, author, broker)
    for source in () if packet.manifest.merged is None else packet.manifest.merged.sources:
        try:
            _refuse_remembered(source.digest, source.signers[0], broker)
        except TrustError as error:
            raise TrustError(f"{packet.digest} holds a packet that is revoked: {error}") from error


def _refuse_remembered(digest: str, author: str | None, broker: str | None) -> None:
    for record, path in _read_records(digest):
        envelope = record.get("envelope")
        if envelope is None:  # of an earlier release, which kept the broker's word alone
            raise TrustError(f"{digest} was revoked at {record.get('broker')}: {record.get('reason')}; do not use it")
        try:
            signed = read_notice(envelope.encode(), str(path), digest)
        except PacketError as error:
            raise StorageError(f"expected a signed revocation in {path}: {error}; restore or delete it") from error
        is_authors = author in signed.keyids
        if is_authors or record.get("broker") == broker:
            whose = "by its author" if is_authors else f"at {record.get('broker')} by {signed.keyids[0][:12]}"
            raise TrustError(f"{digest} was revoked {whose}: {signed.notice.reason}; do not use it")


def _records(digest: str) -> Path:
    return m2kt_home() / "revoked" / digest.removeprefix("sha256:")


def _read_records(digest: str) -> list[tuple[dict[str, str], Path]]:
    folder = _records(digest)
    paths = [*sorted(folder.glob("*.json")), folder.with_name(f"{folder.name}.json")]
    records = []
    for path in paths:
        if path.is_file():
            try:
                record = json.loads(path.read_text())
            except (OSError, ValueError) as error:
                raise StorageError(f"cannot read {path}: {explain(error)}; restore or delete it") from error
            records.append((record if isinstance(record, dict) else {}, path))
    return records
