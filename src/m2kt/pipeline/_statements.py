"""Signatures: statements about a packet (evaluation, audit, receipt), and the verbs ``sign`` and ``verify``.

The models are the statements' predicates; docs/schemas holds their JSON Schemas, docs/trust.md says who signs what.
"""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from m2kt._home import check_home
from m2kt.errors import PacketError, SpecError, StorageError, explain
from m2kt.packet import (
    EVALUATION,
    RECEIPT,
    VERDICT,
    Notice,
    Packet,
    Release,
    Statement,
    TrustPolicy,
    TrustVerdict,
    cosign,
    judge_file,
    judge_statement,
    key_path,
    library_versions,
    local_key,
    read_signer,
    read_statement,
    sign_release,
    sign_statement,
    verify_statement,
)
from m2kt.pipeline._adapters import CONFIG, adapter_digest, use_umask
from m2kt.pipeline._adapters import RECEIPT as RECEIPT_FILE
from m2kt.pipeline._config import IngestConfig
from m2kt.pipeline._report import Result
from m2kt.pipeline._results import EvaluateResult
from m2kt.remote import local_packet, open_packet

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]


class Circumstances(BaseModel):
    """When a result was obtained, and with which libraries."""

    model_config = ConfigDict(extra="forbid")

    libraries: dict[str, str] = Field(default_factory=library_versions)
    finished: str = Field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"), description="UTC, ISO 8601."
    )


class Evaluation(EvaluateResult, Circumstances):
    """Predicate of an evaluation: the result of ``m2kt evaluate``."""


class PacketVerdict(Circumstances):
    """Predicate of a verdict on a packet: the result of ``m2kt audit``."""

    packet: str = Field(description="Digest of the packet.")
    clean: bool = Field(description="Whether there is no finding.")
    against: str | None = Field(description="Digest of the packet it was compared with; null: none.")
    content: dict[str, JsonValue] = Field(description="Findings in its texts, and Penalty(c_k) by concept.")
    program: dict[str, JsonValue] | None = Field(
        default=None, description="What its program can write; verdicts of earlier releases have none."
    )
    consistency: dict[str, JsonValue] = Field(description="Rows that contradict each other or the other packet.")


class BaseModelId(BaseModel):
    """The frozen student."""

    model_config = ConfigDict(extra="forbid")

    name: str
    digest: str


class Before(BaseModel):
    """The state before an ingest."""

    model_config = ConfigDict(extra="forbid")

    accuracy: float = Field(description="Accuracy of the frozen student.")
    adapter: str | None = Field(description="Digest of the adapter that was replaced; null: none.")


class Receipt(Circumstances):
    """Predicate of a receipt: packet, student, cost and verdict of an ingest."""

    base_model: BaseModelId
    cal: dict[str, JsonValue] = Field(description="Settings of the student side, updates and seed.")
    ledger: dict[str, JsonValue] = Field(description="What was used: examples, passes, tokens, bytes, seconds.")
    before: Before
    after: dict[str, JsonValue] = Field(
        description="Measurements of the verdict (m2kt-verdict.json), and `adapter`: the digest of what was committed, "
        "null after a rejection."
    )
    verdict: Literal["accepted", "rejected"]
    reasons: list[str] = Field(description="Reasons of the checks that were missed.")
    thresholds: dict[str, JsonValue]
    origin: TrustVerdict | None = Field(
        description="The trust policy's verdict on the packet; null: no policy was given."
    )
    program: dict[str, JsonValue] | None = Field(
        default=None,
        description="How the packet's program was exercised before training, with the seed of all prompts of this "
        "ingest; receipts of earlier releases have none.",
    )
    forgotten: list[str] = Field(
        default_factory=list, description="Rows and symbols that m2kt forget removed after the verdict."
    )
    refusal: str | None = Field(default=None, description="What is written where one of them is needed.")


PREDICATES: dict[str, type[Circumstances]] = {
    EVALUATION: Evaluation,
    VERDICT: PacketVerdict,
    RECEIPT: Receipt,
}


class Signed(BaseModel):
    """A packet and all keys that have signed it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    packet: str
    digest: str
    signers: list[str] = Field(description="Key ids.")


def schemas() -> dict[str, dict[str, JsonValue]]:
    """JSON Schemas of the predicates and of the configuration, by name."""
    predicates: dict[str, type[BaseModel]] = {
        "evaluation": Evaluation,
        "verdict": PacketVerdict,
        "receipt": Receipt,
        "notice": Notice,
    }
    written = {name: model.model_json_schema(mode="serialization") for name, model in predicates.items()}
    return {**written, "ingest-config": IngestConfig.model_json_schema()}


def local_signer() -> CryptoSigner:
    """The local key, ready to sign. Raises StorageError where M2KT_HOME cannot be written or the key not be used."""
    check_home()
    return read_signer(local_key())


def sign(
    packet: str | Path,
    key: str | Path = "ed25519",
    passphrase: str | None = None,
    *,
    release: int | None = None,
    expires: datetime | None = None,
) -> Signed:
    """Adds a signature to a packet, or signs it anew as a numbered release; its digest and parts stay as they are.

    Args:
        packet: directory or ``.m2kp`` file, which is verified first.
        key: name of a key or its PEM file; the local key is created on first use.
        passphrase: of a locked key; by default of ``M2KT_PASSPHRASE``.
        release: number of the release; the key must be the author's, and signatures of others are dropped.
        expires: from then on readers expect a newer release, or this one signed again; UTC if it names no time zone.

    Raises:
        PacketError: the packet is damaged, this key has signed it already, or is not its author's.
        SpecError: ``expires`` without ``release``, or no valid number.
        StorageError: the key cannot be used.
    """
    digest = Packet.load(packet).digest
    if release is None and expires is not None:
        raise SpecError("expected --release with --expires, got --expires alone; give both")
    if release is None:
        signature = cosign(packet, key_file(key), passphrase)
    else:
        zoned = expires if expires is None or expires.tzinfo else expires.replace(tzinfo=UTC)
        try:
            numbered = Release(number=release, expires=zoned)
        except ValueError as error:
            raise SpecError(f"expected a release number from 1 on, got {release}: {explain(error)}") from error
        signature = sign_release(packet, numbered, key_file(key), passphrase)
    return Signed(packet=str(packet), digest=digest, signers=list(signature.keyids))


def key_file(key: str | Path) -> Path:
    """The file of a key given by name or path; the local key is created on first use."""
    path = key_path(key)
    if path != key_path():
        return path
    check_home()
    return local_key()


def signed(packet: Packet, kind: str, predicate: Circumstances, by: Path | CryptoSigner | None = None) -> bytes:
    """The statement, signed; ``by`` as for :func:`m2kt.packet.sign_statement`."""
    content = predicate.model_dump(mode="json")
    return sign_statement(kind, packet.digest, content, name=packet.manifest.name, key=by)


def write_statement(path: str | Path, packet: Packet, kind: str, result: Result, key: CryptoSigner | None) -> Path:
    """Writes a result as a signed statement about a packet. Raises StorageError."""
    predicate = PREDICATES[kind].model_validate(result.report())
    return write_file(Path(path), signed(packet, kind, predicate, key))


def write_file(path: Path, content: bytes) -> Path:
    """Writes a file aside and renames it: it is complete, or as it was. Raises StorageError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            use_umask(Path(aside))
            Path(aside).replace(path)
        finally:
            Path(aside).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot write the statement {path}: {explain(error)}; free some space or choose another path"
        ) from error
    return path


def verify(
    file: str | Path,
    trust: str | Path | TrustPolicy | None = None,
    *,
    packet: str | Path | None = None,
    student: str | None = None,
    at: datetime | None = None,
) -> TrustVerdict:
    """Checks all signatures, and the signers by a trust policy.

    Args:
        file: a packet or a reference to one, an adapter, or a signed statement.
        trust: the policy; without one nothing is trusted.
        packet: of an adapter: the packet that it must come from.
        student: of an adapter: its base model.
        at: the time for expiry, UTC if it names no time zone; now by default.

    Raises:
        PacketError: damaged, edited, or an adapter without a receipt that is about its files.
        SpecError: ``packet`` or ``student`` without an adapter, or a policy that is not valid.
    """
    path = local_packet(file)
    policy = TrustPolicy.from_file(trust) if isinstance(trust, str | Path) else trust
    at = at if at is None or at.tzinfo else at.replace(tzinfo=UTC)
    if (path / CONFIG).is_file():
        return verify_adapter(path, policy, packet=packet, student=student, at=at)
    if packet is not None or student is not None:
        raise SpecError(f"--packet and --student need an adapter, got {file}; leave them out")
    return judge_file(path, policy, at=at)


def verify_adapter(
    path: str | Path,
    policy: TrustPolicy | None,
    *,
    packet: str | Path | None = None,
    student: str | None = None,
    at: datetime | None = None,
) -> TrustVerdict:
    """Compares an adapter's receipt with its files, then checks the signers by the policy.

    Args:
        path: adapter directory made by ``m2kt ingest``.
        packet: the packet that it must come from.
        student: its base model.

    Raises:
        PacketError: there is no receipt, it does not verify, or it is about other files.
    """
    path = Path(path)
    receipt_file = str(path / RECEIPT_FILE)
    statement, receipt = read_receipt(path, adapter_digest(path))
    if packet is not None:
        _require_same(f"the packet {packet}", open_packet(packet).digest, statement.packet, receipt_file)
    if student is not None:
        from m2kt.models import digest_of_model, resolve

        digest = digest_of_model(resolve(student))
        _require_same(f"the model {student}", digest, receipt.base_model.digest, receipt_file)
    return judge_statement(statement, policy, at=at)


def read_receipt(folder: Path, digest: str | None) -> tuple[Statement, Receipt]:
    """The receipt in a directory.

    Args:
        digest: of the adapter or checkpoint there, as it is now.

    Raises:
        PacketError: there is none, it does not verify, or it is about other files.
    """
    path = folder / RECEIPT_FILE
    statement = verify_statement(read_statement(path), str(path), expected=RECEIPT)
    try:
        receipt = Receipt.model_validate(statement.predicate)
    except ValueError as error:
        raise PacketError(f"{path} is no receipt: {explain(error)}; get it again from its signer") from error
    kind = "adapter" if (folder / CONFIG).is_file() else "model"
    committed = receipt.after.get("adapter")
    committed = None if committed is None else str(committed)
    _require_same(f"the {kind} {folder}", digest, committed, str(path))
    return statement, receipt


def require_packet_of(adapter: str | Path, packet: Packet) -> None:
    """Raises SpecError where an adapter's receipt names another packet."""
    path = Path(adapter) / RECEIPT_FILE
    if not path.is_file():
        return
    named = verify_statement(read_statement(path), str(path), expected=RECEIPT).packet
    if named != packet.digest:
        raise SpecError(
            f"the adapter {adapter} comes from the packet {named}, expected {packet.digest}; name that packet"
        )


def _require_same(subject: str, digest: str | None, named: str | None, receipt_file: str) -> None:
    if digest != named:
        raise PacketError(
            f"{subject} has the digest {digest}, {receipt_file} is about {named}: expected the same; it was changed or "
            "exchanged since it was signed"
        )
