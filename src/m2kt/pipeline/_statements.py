"""What an evaluation, an audit or an ingest found, as a signed statement about the packet it used.

The models here are the predicates; docs/schemas has their JSON Schemas, and docs/trust.md says who is asked to sign.
"""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from m2kt.errors import PacketError, SpecError, StorageError, explain
from m2kt.packet import (
    EVALUATION,
    RECEIPT,
    VERDICT,
    Packet,
    Statement,
    TrustPolicy,
    TrustVerdict,
    judge_statement,
    library_versions,
    read_statement,
    sign_statement,
    verify_statement,
)
from m2kt.pipeline._adapters import RECEIPT as RECEIPT_FILE
from m2kt.pipeline._adapters import adapter_digest
from m2kt.pipeline._results import AuditResult, EvaluateResult
from m2kt.remote import open_packet

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]


class Circumstances(BaseModel):
    """When something was found, and with which libraries."""

    model_config = ConfigDict(extra="forbid")

    libraries: dict[str, str] = Field(default_factory=library_versions)
    finished: str = Field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"), description="UTC, ISO 8601."
    )


class Evaluation(EvaluateResult, Circumstances):
    """Predicate of an evaluation: what ``m2kt evaluate`` reports."""


class PacketVerdict(AuditResult, Circumstances):
    """Predicate of a verdict on a packet: what ``m2kt audit`` reports."""


class BaseModelId(BaseModel):
    """The frozen student."""

    model_config = ConfigDict(extra="forbid")

    name: str
    digest: str


class Before(BaseModel):
    """What stood there before an ingest."""

    model_config = ConfigDict(extra="forbid")

    accuracy: float = Field(description="Of the frozen student.")
    adapter: str | None = Field(description="Digest of the adapter that was replaced; null: none.")


class Receipt(Circumstances):
    """Predicate of a receipt: what was taken in, by what, at what cost, with what result."""

    base_model: BaseModelId
    cal: dict[str, Any] = Field(description="Settings of the student side, updates and seed.")
    ledger: dict[str, Any] = Field(description="What was used: examples, passes, tokens, bytes, seconds.")
    before: Before
    after: dict[str, Any] = Field(
        description="Measurements of the verdict (m2kt-verdict.json), and `adapter`: the digest of what was committed, "
        "null after a rejection."
    )
    verdict: Literal["accepted", "rejected"]
    reasons: list[str] = Field(description="Thresholds that were missed.")
    thresholds: dict[str, Any]
    origin: TrustVerdict | None = Field(
        description="What the trust policy said of the packet; null: not asked."
    )


PREDICATES: dict[str, type[Circumstances]] = {
    EVALUATION: Evaluation,
    VERDICT: PacketVerdict,
    RECEIPT: Receipt,
}


def schemas() -> dict[str, dict[str, Any]]:
    """JSON Schemas of the predicates, by name."""
    named: dict[str, type[Circumstances]] = {
        "evaluation": Evaluation,
        "verdict": PacketVerdict,
        "receipt": Receipt,
    }
    return {name: model.model_json_schema(mode="serialization") for name, model in named.items()}


def signed(
    packet: Packet, kind: str, predicate: Circumstances, by: Path | CryptoSigner | None = None
) -> bytes:
    """The statement, signed; ``by`` as for :func:`m2kt.packet.sign_statement`."""
    content = predicate.model_dump(mode="json")
    return sign_statement(kind, packet.digest, content, name=packet.manifest.name, key=by)


def write_file(path: Path, content: bytes) -> Path:
    """Writes aside and renames: the file is either whole or as it was. Raises StorageError."""
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
        raise StorageError(
            f"cannot write the statement {path}: {explain(error)}; free some space or choose another place"
        ) from error
    return path


def verify_adapter(
    path: str | Path,
    policy: TrustPolicy | None,
    *,
    packet: str | Path | None = None,
    student: str | None = None,
    at: datetime | None = None,
) -> TrustVerdict:
    """Holds an adapter's receipt against what is on the disk, then asks the policy about who signed it.

    Args:
        path: adapter directory made by ``m2kt ingest``.
        packet: the packet that it should come from.
        student: the base model that it should belong to.

    Raises:
        PacketError: there is no receipt, it does not verify, or it is about something else than what lies there.
    """
    path = Path(path)
    where = str(path / RECEIPT_FILE)
    statement, receipt = read_receipt(path, adapter_digest(path))
    if packet is not None:
        _same(f"the packet {packet}", open_packet(packet).digest, statement.packet, where)
    if student is not None:
        from m2kt.models import digest_of_model, resolve

        _same(f"the model {student}", digest_of_model(resolve(student)), receipt.base_model.digest, where)
    return judge_statement(statement, policy, at=at)


def read_receipt(folder: Path, digest: str | None) -> tuple[Statement, Receipt]:
    """The receipt that lies in a folder.

    Args:
        digest: of the adapter or checkpoint there, as it is now.

    Raises:
        PacketError: there is none, it does not verify, or it is about something else.
    """
    where = str(folder / RECEIPT_FILE)
    statement = verify_statement(read_statement(folder / RECEIPT_FILE), where, expected=RECEIPT)
    try:
        receipt = Receipt.model_validate(statement.predicate)
    except ValueError as error:
        raise PacketError(f"{where} is no receipt: {explain(error)}") from error
    kind = "adapter" if (folder / "adapter_config.json").is_file() else "model"
    _same(f"the {kind} {folder}", digest, receipt.after.get("adapter"), where)
    return statement, receipt


def about(adapter: str | Path, packet: Packet) -> None:
    """Raises SpecError where an adapter's receipt names another packet."""
    path = Path(adapter) / RECEIPT_FILE
    if not path.is_file():
        return
    came = verify_statement(read_statement(path), str(path), expected=RECEIPT).packet
    if came != packet.digest:
        raise SpecError(
            f"the adapter {adapter} comes from the packet {came}; the statement would be about {packet.digest}"
        )


def _same(what: str, digest: str | None, receipt: Any, where: str) -> None:
    if digest != receipt:
        raise PacketError(
            f"{what} has the digest {digest}, {where} is about {receipt}: expected the same; it was changed or "
            "exchanged since it was signed"
        )
