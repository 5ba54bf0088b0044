"""Notices: an author's signed word that a packet is listed, hidden or revoked; a client never forgets a revocation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

from m2kt.errors import PacketError, explain

from ._statement import NOTICE, sign_statement, verify_statement

PacketState = Literal["listed", "yanked", "revoked"]
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def _one_line(text: str) -> str:
    if _UNPRINTABLE.search(text):
        raise ValueError("expected one line without control characters")
    return text


class Notice(BaseModel):
    """Predicate of a notice."""

    model_config = ConfigDict(extra="forbid")

    state: PacketState = Field(description="yanked: hidden, still served; revoked: for ever, no longer to be used.")
    reason: Annotated[str, AfterValidator(_one_line)] = Field(
        min_length=1, max_length=1000, description="Shown to everybody who asks for the packet."
    )
    at: AwareDatetime = Field(description="Time of the notice. A later one of the same key replaces it.")


@dataclass(frozen=True)
class SignedNotice:
    """A notice whose signatures are valid."""

    notice: Notice
    packet: str
    keyids: tuple[str, ...]


def sign_notice(packet: str, state: PacketState, reason: str, key: Path | CryptoSigner | None = None) -> bytes:
    """A signed notice about the packet with this digest. Raises PacketError where the reason is no line of text."""
    try:
        notice = Notice(state=state, reason=reason, at=datetime.now(UTC))
    except ValueError as error:
        raise PacketError(f"expected a reason of 1 to 1000 characters on one line: {explain(error)}") from error
    return sign_statement(NOTICE, packet, notice.model_dump(mode="json"), key=key)


def read_notice(envelope: bytes, where: str, packet: str) -> SignedNotice:
    """Open a notice about a packet and verify its signatures. Whether its signers may speak is the caller's to judge.

    Raises:
        PacketError: damaged, edited, no notice, or about another packet.
    """
    statement = verify_statement(envelope, where, expected=NOTICE, packet=packet)
    try:
        notice = Notice.model_validate(statement.predicate)
    except ValueError as error:
        raise PacketError(f"{where} is no notice: {explain(error)}") from error
    return SignedNotice(notice, statement.packet, statement.keyids)
