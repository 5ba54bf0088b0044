"""Whether a trust policy accepts a packet or a statement. A valid signature alone does not mean trust."""

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
    """A signer under the policy."""

    keyid: str = Field(description="Id of the key.")
    owner: str | None = Field(description="Owner, by the policy; null for an unknown key.")
    roles: list[Role] = Field(description="Roles of the key in the policy.")
    state: State = Field(description="Whether the signature counts.")


class TrustVerdict(_Result):
    """What ``m2kt verify`` reports of a packet or statement whose signatures are all valid."""

    kind: str = Field(description="Predicate type of the signed statement.")
    packet: str = Field(description="Digest of the packet that was signed, or that the statement is about.")
    integrity: Literal[True] = Field(default=True, description="All signatures are valid, nothing was edited.")
    trusted: bool = Field(description="Whether the policy accepts it.")
    signatures: list[SignerState] = Field(description="All signers.")
    reasons: list[str] = Field(description="Why it is not trusted; empty if it is trusted.")
    checked_at: str = Field(description="Time against which expiry was checked.")

    def require(self, where: str) -> None:
        """Raise TrustError unless trusted."""
        if not self.trusted:
            raise TrustError(f"{where} is not trusted: {'; '.join(self.reasons)}")


def judge_packet(packet: Packet, policy: TrustPolicy | None, *, at: datetime | None = None) -> TrustVerdict:
    """Verify the signatures of a packet in memory, and judge the signers by the policy.

    Raises:
        PacketError: the packet is unsigned, was loaded without verification, or was changed since.
    """
    parts = packet._current_parts()
    if packet.signature is None or SIGNATURE not in parts:
        raise PacketError(
            "the packet has no verified signature, or was changed since it was loaded; save it and load it again"
        )
    files = {name: content for name, content in parts.items() if name != SIGNATURE}
    signature = verify_files(files, parts[SIGNATURE], "packet")
    thresholds = {} if policy is None else dict(policy.thresholds)
    reasons = []
    if policy is not None:
        teacher = packet.manifest.teacher
        if policy.teachers is not None and teacher.digest not in policy.teachers:
            reasons.append(f"its teacher {teacher.digest} is not among the teachers that the policy allows")
        if policy.licences is not None and teacher.licence not in policy.licences:
            reasons.append(f"its teacher's licence is {teacher.licence}, expected one of {policy.licences}")
        reasons += _of_sources(packet, policy)
    return _judge(PREDICATE_TYPE, packet.digest, signature.keyids, policy, thresholds, reasons, at)


def _of_sources(packet: Packet, policy: TrustPolicy) -> list[str]:
    """Why packets that one was merged from make it untrusted: who may not be used alone may not be used within."""
    merged, reasons = packet.manifest.merged, []
    revoked_keys = {revoked.keyid for revoked in policy.revoked.keys}
    for source in () if merged is None else merged.sources:
        holds = f"it holds {source.digest}"
        reasons += [
            f"{holds}, which was revoked at {revoked.time.isoformat()}: {revoked.reason}"
            for revoked in policy.revoked.packets
            if revoked.digest == source.digest
        ]
        if source.signers[0] in revoked_keys:
            reasons.append(f"{holds}, whose author's key {source.signers[0][:12]} is revoked")
        if policy.teachers is not None and source.teacher_digest not in policy.teachers:
            reasons.append(f"{holds} of the teacher {source.teacher_digest}, which the policy does not allow")
        if policy.licences is not None and source.licence not in policy.licences:
            reasons.append(f"{holds} of a teacher with the licence {source.licence}, expected {policy.licences}")
    return reasons


def judge_statement(statement: Statement, policy: TrustPolicy | None, *, at: datetime | None = None) -> TrustVerdict:
    """Judge the signers of a statement by the policy: they must have the role auditor."""
    thresholds: dict[Role, int] = {} if policy is None else {"auditor": policy.thresholds.get("auditor", 1)}
    return _judge(statement.predicate_type, statement.packet, statement.keyids, policy, thresholds, [], at)


def judge_file(path: str | Path, policy: TrustPolicy | None, *, at: datetime | None = None) -> TrustVerdict:
    """Judge the packet or statement at ``path``. A file that begins with ``{`` is a statement."""
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
    thresholds: dict[Role, int],
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
            f"the packet was revoked at {revoked.time.isoformat()}: {revoked.reason}"
            for revoked in policy.revoked.packets
            if revoked.digest == packet
        ]
        for role, threshold in thresholds.items():
            # two keys of one owner count once
            counted = {s.keyid for s in states if s.state == "valid" and role in s.roles}
            owners = {key.holder for key in policy.keys if key.keyid in counted}
            if len(owners) < threshold:
                ignored = ", ".join(f"{s.keyid[:12]} {_reason(s)}" for s in states if s.keyid not in counted)
                reasons.append(
                    f"role {role} needs {threshold} owner(s), got {len(owners)}"
                    + (f" (does not count: {ignored})" if ignored else "")
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
    if any(revoked.keyid == keyid for revoked in policy.revoked.keys):
        state = "revoked"
    elif key is None:
        state = "unknown"
    elif at >= key.expires:
        state = "expired"
    elif key.not_before is not None and at < key.not_before:
        state = "not yet valid"
    return SignerState(keyid=keyid, owner=key.owner if key else None, roles=key.roles if key else [], state=state)


def _reason(signer: SignerState) -> str:
    if signer.state == "valid":
        return f"of {signer.owner} is {', '.join(signer.roles)}"
    return signer.state
