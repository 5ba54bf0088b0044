"""The receipt of an ingest: what was taken in, by what, with what result, signed by whoever ran it.

It lies in the adapter's directory and goes with the state through every rollback. A rejection leaves no adapter; its
receipt lies beside the place where one would have been.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2kt.errors import StorageError, explain
from m2kt.packet import RECEIPT, Packet, TrustPolicy, TrustVerdict, judge_packet, sign_statement
from m2kt.packet import library_versions as versions

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

    from m2kt.audit import Verdict
    from m2kt.models import LoadedModel

Receipt = Callable[[str | None], bytes]
"""Digest of the adapter that was committed (None: rejected) to a signed receipt."""


def check_origin(packet: Packet, trust: str | Path | TrustPolicy | None) -> TrustVerdict | None:
    """Raises TrustError for a packet that the policy does not accept; None where there is no policy to ask."""
    if trust is None:
        return None
    policy = trust if isinstance(trust, TrustPolicy) else TrustPolicy.from_file(trust)
    verdict = judge_packet(packet, policy)
    verdict.require("the packet")
    return verdict


def receipt_of(
    packet: Packet,
    student: LoadedModel,
    config: dict[str, Any],
    ledger: dict[str, Any],
    verdict: Verdict,
    origin: TrustVerdict | None,
    standing: str | None,
    by: CryptoSigner,
) -> Receipt:
    """All that is known before the adapter is written; its digest comes last."""
    measured = json.loads(verdict.model_dump_json())  # a figure that could not be measured is null, not NaN
    about = {
        "base_model": {"name": student.name, "digest": student.digest},
        "cal": config,
        "ledger": ledger,
        "before": {"accuracy": measured.pop("before"), "adapter": standing},
        "verdict": measured.pop("verdict"),
        "reasons": measured.pop("reasons"),
        "thresholds": measured.pop("thresholds"),
        "origin": None if origin is None else origin.model_dump(mode="json"),
        "libraries": versions(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }

    def write(adapter: str | None) -> bytes:
        predicate = {**about, "after": {**measured, "adapter": adapter}}
        return sign_statement(RECEIPT, packet.digest, predicate, name=packet.manifest.name, key=by)

    return write


def rejected_path(out: Path) -> Path:
    """Where the receipt of a rejection goes."""
    return out.with_name(f"{out.name}.rejected.json")


def write_rejected(out: Path, content: bytes) -> Path:
    """Writes aside and renames; the adapter's own place is not touched."""
    path = rejected_path(out.absolute())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(aside).replace(path)
        finally:
            Path(aside).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write the receipt {path}: {explain(error)}; free some space") from error
    return path
