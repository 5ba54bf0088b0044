"""Our statements in predicates that other tools know: in-toto's test result and simple verification result.

https://github.com/in-toto/attestation/tree/main/spec/predicates (test-result v0.1, svr v0.1)
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from m2kt.errors import PacketError, SpecError, explain
from m2kt.packet import RECEIPT, SVR, TEST_RESULT, VERDICT, Statement, read_statement, sign_statement, verify_statement
from m2kt.pipeline._statements import PacketVerdict, Receipt, write_file

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

Form = Literal["test-result", "svr"]
VERIFIER = "urn:m2kt:verifier:v1"


class Attestation(BaseModel):
    """A statement that was written in a predicate of in-toto."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    packet: str = Field(description="Digest of the packet that it is about.")
    predicate_type: str
    passed: bool = Field(description="Whether everything passed.")


def attest(
    statement: str | Path, out: str | Path, *, form: Form = "test-result", key: Path | CryptoSigner | None = None
) -> Attestation:
    """Writes a receipt or an audit's verdict as an in-toto attestation, signed anew.

    Args:
        statement: a receipt (``ADAPTER/receipt.json``) or the statement of ``m2kt audit``, which is verified.
        out: the file of the attestation: a DSSE envelope that any in-toto verifier opens.
        form: ``test-result``: what passed and what failed; ``svr``: the properties that were verified.
        key: signs it; by default the local key.

    Raises:
        PacketError: the statement does not verify.
        SpecError: it is of another kind.
        StorageError: the key cannot be used, or the file not be written.
    """
    content = read_statement(statement)
    read = verify_statement(content, str(statement))
    passed, failed, at = _outcome(read, str(statement))
    source: dict[str, JsonValue] = {
        "name": Path(statement).name,
        "digest": {"sha256": hashlib.sha256(content).hexdigest()},
        "mediaType": "application/vnd.in-toto+json",
        "annotations": {"predicateType": read.predicate_type, "signers": list(read.keyids)},
    }
    kind, predicate = (TEST_RESULT, _test_result(passed, failed, source)) if form == "test-result" else (SVR, {})
    if form == "svr":
        names: list[JsonValue] = [f"M2KT_{name.upper().replace(' ', '_')}" for name in passed] if not failed else []
        predicate = {"verifier": {"id": VERIFIER, "evidence": source}, "timeCreated": at, "properties": names}
    envelope = sign_statement(kind, read.packet, predicate, name=read.name, key=key)
    path = write_file(Path(out), envelope)
    return Attestation(path=str(path), packet=read.packet, predicate_type=kind, passed=not failed)


def _test_result(passed: list[str], failed: list[str], source: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {
        "result": "FAILED" if failed else "PASSED",
        "configuration": [source],
        "passedTests": list[JsonValue](passed),
        "warnedTests": [],
        "failedTests": list[JsonValue](failed),
    }


def _outcome(statement: Statement, where: str) -> tuple[list[str], list[str], str]:
    """Names of what passed, what failed, and the time."""
    try:
        if statement.predicate_type == RECEIPT:
            receipt = Receipt.model_validate(statement.predicate)
            return (*_of_receipt(receipt), _utc(receipt.finished))
        if statement.predicate_type == VERDICT:
            verdict = PacketVerdict.model_validate(statement.predicate)
            return (*_of_verdict(verdict), _utc(verdict.finished))
    except ValueError as error:
        raise PacketError(f"{where} has another predicate than its type says: {explain(error)}") from error
    raise SpecError(f"expected a receipt or the verdict of an audit, got {statement.predicate_type}; name such a file")


def _of_receipt(receipt: Receipt) -> tuple[list[str], list[str]]:
    passed, failed = [], list(receipt.reasons)
    if receipt.verdict == "accepted":
        passed.append("ingest accepted")
    elif not failed:
        failed.append("ingest rejected")
    if receipt.origin is not None:
        (passed if receipt.origin.trusted else failed).append("origin trusted")
    if receipt.program is not None and not receipt.program.get("suspicions"):
        passed.append("program exercised")
    return passed, failed


def _of_verdict(verdict: PacketVerdict) -> tuple[list[str], list[str]]:
    program = verdict.program or {}
    checks = {
        "texts clean": not verdict.content.get("findings") and not verdict.content.get("penalties"),
        "rows consistent": not verdict.consistency.get("contradictions"),
        "program clean": not program.get("suspicions") and not program.get("disagreements"),
    }
    if verdict.program is None:
        del checks["program clean"]
    passed = [name for name, is_good in checks.items() if is_good]
    failed = [name for name, is_good in checks.items() if not is_good]
    return (passed, failed or ([] if verdict.clean else ["audit clean"]))


def _utc(time: str) -> str:
    """A time as RFC 3339 has it, in UTC."""
    return datetime.fromisoformat(time).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
