"""What the service's trust policy says now about signing keys: their owners, and whose verdicts count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from m2kt.packet import TrustPolicy


@dataclass(frozen=True)
class Trusted:
    """Owners by key id, and auditors. Without a policy nobody is known, and no verdict counts."""

    owners: Mapping[str, str] = field(default_factory=dict)
    """Owner of each key in the policy, as it writes him, for people."""
    auditors: Mapping[str, str] = field(default_factory=dict)
    """Holder of each key whose verdicts count now; two keys of one holder count once."""
    threshold: int = 1
    """How many auditors a verdict needs."""

    @classmethod
    def by(cls, policy: TrustPolicy | None) -> Trusted:
        """What a policy says at this time."""
        if policy is None:
            return cls()
        now, revoked = datetime.now(UTC), {key.keyid for key in policy.revoked.keys}
        auditors = {
            key.keyid: key.holder
            for key in policy.keys
            if "auditor" in key.roles
            and key.keyid not in revoked
            and now < key.expires
            and (key.not_before is None or now >= key.not_before)
        }
        owners = {key.keyid: key.owner for key in policy.keys}
        return cls(owners, auditors, policy.thresholds.get("auditor", 1))

    def counts(self, keyids: Iterable[str]) -> bool:
        """Whether a statement with these signers counts."""
        return len({self.auditors[k] for k in keyids if k in self.auditors}) >= self.threshold
