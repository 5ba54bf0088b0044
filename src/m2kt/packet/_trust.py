"""Does a policy accept this packet, or this statement? A valid signature alone is never an answer."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from m2kt.errors import PacketError, TrustError

from ._parts import SIGNATURE
from ._policy import Role, TrustPolicy
from ._sign import PREDICATE_TYPE, verify_files
from ._statement import Statement, read_statement, verify_statement

if TYPE_CHECKING:
    from ._packet import Packet

NO_POLICY = "not trusted: no policy; a valid signature proves integrity, not origin"
State = Literal["valid", "expired", "not yet valid", "revoked", "unknown"]


class _Result(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SignerState(_Result):
    """One signature, as the policy sees it."""

    keyid: str
    owner: str | None = Field(description="As the policy says; null for a key it does not name.")
    roles: list[Role]
    state: State


class TrustVerdict(_Result):
    """What ``m2kt verify`` reports. Something whose signatures do not hold never comes this far."""

    kind: str = Field(description="Predicate type of what was signed.")
    packet: str = Field(description="Digest of the packet, or of that which the statement is about.")
    integrity: Literal[True] = Field(default=True, description="All signatures hold, nothing was edited.")
    trusted: bool
    signatures: list[SignerState]
    reasons: list[str] = Field(description="Why it is not trusted; empty if it is.")
    checked_at: str = Field(description="Time against which expiry was checked.")

    def require(self, where: str) -> None:
        """Raise TrustError unless trusted."""
        if not self.trusted:
            raise TrustError(f"{where} is not trusted: {'; '.join(self.reasons)}")


def judge_packet(packet: Packet, policy: TrustPolicy | None, *, at: datetime | None = None) -> TrustVerdict:
    """Checks a packet's signatures again, as it is in memory now, and asks the policy about the signers.

    Raises:
        PacketError: it was never signed, was loaded unverified, or changed since.
    """
    parts = packet._current_parts()
    if packet.signature is None or SIGNATURE not in parts:
        raise PacketError(
            "the packet has no signature that was verified, or was changed since it was loaded; save it and load it"
        )
    files = {name: content for name, content in parts.items() if name != SIGNATURE}
    signature = verify_files(files, parts[SIGNATURE], "packet")
    needed = {} if policy is None else dict(policy.thresholds)
    reasons = []
    if policy is not None:
        teacher = packet.manifest.teacher
        if policy.teachers is not None and teacher.digest not in policy.teachers:
            reasons.append(f"its teacher {teacher.digest} is not among those that the policy allows")
        if policy.licences is not None and teacher.licence not in policy.licences:
            reasons.append(f"its teacher's licence is {teacher.licence}, allowed are {policy.licences}")
    return _judge(PREDICATE_TYPE, packet.digest, signature.keyids, policy, needed, reasons, at)


def judge_statement(
    statement: Statement, policy: TrustPolicy | None, *, at: datetime | None = None
) -> TrustVerdict:
    """Asks the policy about the signers of a statement: a verdict on a packet is an auditor's word."""
    needed: dict[Role, int] = {} if policy is None else {"auditor": policy.thresholds.get("auditor", 1)}
    return _judge(statement.predicate_type, statement.packet, statement.keyids, policy, needed, [], at)


def judge_file(path: str | Path, policy: TrustPolicy | None, *, at: datetime | None = None) -> TrustVerdict:
    """Whatever lies there, packet or statement, told apart by its first byte: a statement is JSON."""
    from ._packet import Packet

    path = Path(path)
    if path.is_file() and (content := read_statement(path)).startswith(b"{"):
        return judge_statement(verify_statement(content, str(path)), policy, at=at)
    return judge_packet(Packet.load(path), policy, at=at)


def _judge(
    kind: str,
    packet: str,
    keyids: tuple[str, ...],
    policy: TrustPolicy | None,
    needed: dict[Role, int],
    reasons: list[str],
    at: datetime | None,
) -> TrustVerdict:
    at = at or datetime.now(UTC)
    if policy is None:
        states = [SignerState(keyid=k, owner=None, roles=[], state="unknown") for k in keyids]
        reasons = [NO_POLICY]
    else:
        states = [_state(keyid, policy, at) for keyid in keyids]
        reasons += [
            f"the packet was revoked at {gone.time.isoformat()}: {gone.reason}"
            for gone in policy.revoked.packets
            if gone.digest == packet
        ]
        for role, threshold in needed.items():
            # a person, not a key, vouches: two keys of one owner count once
            counted = {s.keyid for s in states if s.state == "valid" and role in s.roles}
            owners = {key.holder for key in policy.keys if key.keyid in counted}
            if len(owners) < threshold:
                others = ", ".join(f"{s.keyid[:12]} {_says(s)}" for s in states if s.keyid not in counted)
                reasons.append(
                    f"role {role} needs {threshold} owner(s), valid are {len(owners)}"
                    + (f" (does not count: {others})" if others else "")
                )
    return TrustVerdict(
        kind=kind,
        packet=packet,
        trusted=not reasons,
        signatures=states,
        reasons=reasons,
        checked_at=at.isoformat(),
    )


def _state(keyid: str, policy: TrustPolicy, at: datetime) -> SignerState:
    key = next((k for k in policy.keys if k.keyid == keyid), None)
    state: State = "valid"
    if any(gone.keyid == keyid for gone in policy.revoked.keys):
        state = "revoked"
    elif key is None:
        state = "unknown"
    elif at >= key.expires:
        state = "expired"
    elif key.not_before is not None and at < key.not_before:
        state = "not yet valid"
    return SignerState(
        keyid=keyid, owner=key.owner if key else None, roles=key.roles if key else [], state=state
    )


def _says(signer: SignerState) -> str:
    if signer.state == "valid":
        return f"of {signer.owner} is {', '.join(signer.roles)}"
    return signer.state
