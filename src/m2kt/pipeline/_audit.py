"""Audit: what a packet says and whether it agrees with itself, before anybody takes it in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m2kt.packet import Packet
from m2kt.pipeline._results import AuditResult

if TYPE_CHECKING:
    from m2kt.audit import ContentAuditor


def audit(packet: Packet, auditor: ContentAuditor, against: Packet | None = None) -> AuditResult:
    """All texts of a packet through the detectors, and its rows held against each other.

    Args:
        against: packet of a teacher that is trusted, to hold its rows against.
    """
    from m2kt.audit import check_consistency

    content, consistency = auditor.audit_packet(packet), check_consistency(packet, against)
    return AuditResult(
        packet=packet.digest,
        clean=not content.findings and not content.penalties and consistency.consistent,
        against=None if against is None else against.digest,
        content=content.model_dump(mode="json"),
        consistency=consistency.model_dump(mode="json"),
    )
