"""The verbs of a broker: publish, pull, search, yank, lineage."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from m2kt.errors import SpecError
from m2kt.packet import (
    Packet,
    PacketState,
    TrustPolicy,
    judge_packet,
    read_statement,
    sign_notice,
    verify_statement,
)

from ._answers import LineageAnswer, NearAnswer, PacketAnswer, RecordAnswer, SearchAnswer
from ._client import BrokerClient, ByteProgress
from ._references import is_reference, open_packet

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]


class Pulled(BaseModel):
    """A packet that was pulled and written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    digest: str
    packet: str = Field(description="Path of the packet.")
    reference: str


def publish(
    packet: str | Path | Packet,
    statements: Sequence[str | Path] = (),
    *,
    progress: ByteProgress | None = None,
) -> RecordAnswer:
    """Verifies a packet and uploads it to the broker at ``M2KT_BROKER_URL``, with the key in ``M2KT_API_KEY``.

    Publishing again adds new signatures and statements.

    Args:
        statements: files of signed receipts, verdicts or evaluations of the packet.

    Raises:
        PacketError: the packet or a statement does not verify, or is about another packet.
        BrokerError: the broker refused or did not answer.
    """
    with BrokerClient() as broker, tempfile.TemporaryDirectory() as folder:
        packet = open_packet(packet)
        envelopes = [read_statement(Path(path)) for path in statements]
        for envelope, path in zip(envelopes, statements, strict=True):
            verify_statement(envelope, str(path), packet=packet.digest)
        broker.publish(packet.digest, packet.save(Path(folder) / "packet.m2kp"), progress)
        for envelope in envelopes:
            broker.add_statement(packet.digest, envelope)
        return broker.record(packet.digest)


def pull(
    packet: str,
    out: str | Path,
    *,
    trust: str | Path | TrustPolicy | None = None,
    progress: ByteProgress | None = None,
) -> Pulled:
    """Downloads a packet, verifies it and writes it; an interrupted download is resumed.

    Args:
        packet: digest at the broker, or a reference.
        out: a directory, or a ``.m2kp`` file.
        trust: the policy that must accept the packet; without one, its origin is not checked.

    Raises:
        TrustError: the packet was revoked, or the policy does not accept it; nothing is written.
        PacketError, BrokerError, StorageError: it does not verify, cannot be downloaded, or cannot be written.
    """
    policy = TrustPolicy.from_file(trust) if isinstance(trust, str | Path) else trust
    reference = packet if is_reference(packet) else f"m2kt://{packet}"
    loaded = open_packet(reference, progress)
    if policy is not None:
        judge_packet(loaded, policy).require(reference)
    loaded.save(out)
    return Pulled(digest=loaded.digest, packet=str(out), reference=reference)


def search(
    text: str | None = None, *, like: str | Path | Packet | None = None, row: int = 0, limit: int = 20
) -> SearchAnswer | NearAnswer:
    """Finds packets at the broker by text, or concepts near one of a packet's in its teacher's space.

    Args:
        text: part of a symbol, rule, skill or teacher.
        like: the packet whose concept ``row`` is searched for, instead of ``text``.
    """
    if (text is None) == (like is None):
        raise SpecError("expected either TEXT or --like PACKET, got both or neither; give one of them")
    with BrokerClient() as broker:
        if like is None:
            return broker.search(str(text), limit)
        packet = open_packet(like)
        if row >= packet.n_concepts:
            raise SpecError(
                f"expected --row below {packet.n_concepts}, the concepts of {like}, got {row}; choose a lower one"
            )
        return broker.near(packet.space, [float(x) for x in packet.concepts.vectors_KD[row]], limit)


def yank(
    digest: str,
    reason: str,
    *,
    revoke: bool = False,
    undo: bool = False,
    key: Path | CryptoSigner | None = None,
) -> PacketAnswer:
    """Hides a packet from lists and searches; its digest still opens it.

    Args:
        reason: shown to everybody who asks for the packet.
        revoke: for ever: its bytes are refused, and clients that have seen it refuse the packet wherever it comes from.
        undo: list a yanked packet again.
        key: the author's key, which signs the notice; by default the local one.
    """
    if revoke and undo:
        raise SpecError("expected at most one of --revoke and --undo, got both; a revocation cannot be undone")
    state: PacketState = "revoked" if revoke else "listed" if undo else "yanked"
    with BrokerClient() as broker:
        return broker.set_state(digest, sign_notice(digest, state, reason, key))


def lineage(digest: str) -> LineageAnswer:
    """Teacher, packet and adapters of a digest, as the broker knows them from signed receipts."""
    with BrokerClient() as broker:
        return broker.lineage(digest)
