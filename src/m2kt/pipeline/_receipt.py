"""The receipt of an ingest: packet, student and verdict, signed by the local key.

It is in the adapter's directory and part of its states. A rejection writes no adapter; its receipt is written beside
the adapter's path.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from m2kt.packet import RECEIPT, Packet, TrustPolicy, TrustVerdict, judge_packet
from m2kt.pipeline._statements import BaseModelId, Before, Receipt, signed, write_file
from m2kt.remote import refuse_revoked

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

    from m2kt.auditor import ProgramReport, Verdict
    from m2kt.models import LoadedModel


@dataclass(frozen=True)
class Draft:
    """A receipt without the digest of the committed adapter, which is known last."""

    packet: Packet
    receipt: Receipt
    by: CryptoSigner

    @property
    def keyid(self) -> str:
        """Id of the key that will sign."""
        return str(self.by.public_key.keyid)

    def sign(self, committed: str | None) -> bytes:
        """The signed receipt.

        Args:
            committed: digest of the adapter or checkpoint; None after a rejection.
        """
        after = {**self.receipt.after, "adapter": committed}
        receipt = self.receipt.model_copy(update={"after": after})
        return signed(self.packet, RECEIPT, receipt, self.by)


def check_origin(packet: Packet, trust: str | Path | TrustPolicy | None) -> TrustVerdict | None:
    """Raises TrustError for a packet that was revoked or that the policy does not accept; None without a policy."""
    refuse_revoked(packet)
    if trust is None:
        return None
    policy = trust if isinstance(trust, TrustPolicy) else TrustPolicy.from_file(trust)
    verdict = judge_packet(packet, policy)
    verdict.require("the packet")
    return verdict


def receipt_of(
    packet: Packet,
    student: LoadedModel,
    config: dict[str, JsonValue],
    ledger: dict[str, JsonValue],
    verdict: Verdict,
    origin: TrustVerdict | None,
    program: ProgramReport | None,
    digest_before: str | None,
    by: CryptoSigner,
) -> Draft:
    """The receipt before anything is written."""
    measured = json.loads(verdict.model_dump_json())  # NaN, a value that could not be measured, becomes null
    before = Before(accuracy=measured.pop("before"), adapter=digest_before)
    known = {name: measured.pop(name) for name in ("verdict", "reasons", "thresholds")}
    receipt = Receipt(
        base_model=BaseModelId(name=student.name, digest=student.digest),
        cal=config,
        ledger=ledger,
        before=before,
        after=measured,
        origin=origin,
        program=None if program is None else program.model_dump(mode="json", exclude={"lines"}),
        **known,
    )
    return Draft(packet, receipt, by)


def write_rejected(out: Path, content: bytes) -> Path:
    """Writes the receipt of a rejection beside ``out``, under the first unused name."""
    out = out.absolute()
    suffixes = itertools.chain([""], (f"-{i}" for i in itertools.count(2)))
    paths = (out.with_name(f"{out.name}.rejected{suffix}.json") for suffix in suffixes)
    return write_file(next(path for path in paths if not path.exists()), content)
