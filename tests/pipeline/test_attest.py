"""Attestations in in-toto's predicates, opened by securesystemslib alone."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey
from typer.testing import CliRunner

from m2kt.cli import app
from m2kt.errors import PacketError, SpecError
from m2kt.packet import EVALUATION, RECEIPT, VERDICT, show_key, sign_statement, verify_statement
from m2kt.pipeline import attest
from tests.packet.trusting import key

PACKET = "sha256:" + "7" * 64
TIME = "2026-11-30T12:00:00+01:00"


def receipt(verdict: str, reasons: list[str], **fields: Any) -> bytes:
    predicate = {
        "libraries": {},
        "finished": TIME,
        "base_model": {"name": "s", "digest": "d"},
        "cal": {},
        "ledger": {},
        "before": {"accuracy": 0.0, "adapter": None},
        "after": {"adapter": None},
        "verdict": verdict,
        "reasons": reasons,
        "thresholds": {},
        "origin": None,
        **fields,
    }
    return sign_statement(RECEIPT, PACKET, predicate)


def verdict(findings: int, suspicions: int) -> bytes:
    predicate = {
        "libraries": {},
        "finished": TIME,
        "packet": PACKET,
        "clean": not findings and not suspicions,
        "against": None,
        "content": {"findings": [{}] * findings, "penalties": {}},
        "consistency": {"contradictions": []},
        "program": {"suspicions": [{}] * suspicions, "disagreements": []},
    }
    return sign_statement(VERDICT, PACKET, predicate)


def foreign(path: Path, signer: str) -> dict[str, Any]:
    """What a tool that knows nothing of m2kt reads, with the signer's public key alone."""
    envelope = Envelope.from_dict(json.loads(path.read_text()))
    public = SSlibKey.from_crypto(load_pem_public_key(show_key(signer).public_key.encode()))
    assert list(envelope.verify([public], 1)) and envelope.payload_type == "application/vnd.in-toto+json"
    other = SSlibKey.from_crypto(load_pem_public_key(key("eve").public_key.encode()))
    with pytest.raises(VerificationError):
        envelope.verify([other], 1)
    statement: dict[str, Any] = json.loads(envelope.payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert [s["digest"] for s in statement["subject"]] == [{"sha256": "7" * 64}]
    return statement


CASES = [
    (receipt, ("accepted", []), ["ingest accepted"], []),
    (receipt, ("rejected", ["accuracy 0.1 < 0.9"]), [], ["accuracy 0.1 < 0.9"]),
    (verdict, (0, 0), ["texts clean", "rows consistent", "program clean"], []),
    (verdict, (0, 1), ["texts clean", "rows consistent"], ["program clean"]),
]


@pytest.mark.parametrize(
    ("make", "arguments", "passed", "failed"), CASES, ids=[f"{c[0].__name__}{c[1]}" for c in CASES]
)
def test_a_foreign_tool_reads_what_passed(
    make: Any, arguments: tuple[Any, ...], passed: list[str], failed: list[str], tmp_path: Path
) -> None:
    key("tom"), (tmp_path / "s.json").write_bytes(make(*arguments))
    tom = Path(show_key("tom").path)
    done = attest(tmp_path / "s.json", tmp_path / "t.json", key=tom)
    result = foreign(tmp_path / "t.json", "tom")
    assert result["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    predicate = result["predicate"]
    assert predicate["result"] == ("FAILED" if failed else "PASSED") and done.passed is (not failed)
    assert (predicate["passedTests"], predicate["failedTests"]) == (passed, failed)
    assert predicate["configuration"][0]["name"] == "s.json" and predicate["configuration"][0]["digest"]["sha256"]
    attest(tmp_path / "s.json", tmp_path / "v.json", form="svr", key=tom)
    svr = foreign(tmp_path / "v.json", "tom")["predicate"]
    assert svr["timeCreated"] == "2026-11-30T11:00:00Z" and svr["verifier"]["id"].startswith("urn:m2kt")
    assert svr["properties"] == ([] if failed else [f"M2KT_{name.upper().replace(' ', '_')}" for name in passed])
    assert verify_statement((tmp_path / "v.json").read_bytes()).packet == PACKET


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_bytes(sign_statement(EVALUATION, PACKET, {"accuracy": 1.0}))
    with pytest.raises(SpecError, match="expected a receipt"):
        attest(file, tmp_path / "t.json")
    file.write_bytes(sign_statement(RECEIPT, PACKET, {"verdict": "accepted"}))
    with pytest.raises(PacketError, match="another predicate"):
        attest(file, tmp_path / "t.json")
    envelope = json.loads(receipt("accepted", []))
    envelope["payload"] = base64.b64encode(
        base64.b64decode(envelope["payload"]).replace(b"accepted", b"rejected")
    ).decode()
    file.write_text(json.dumps(envelope))
    with pytest.raises(PacketError):
        attest(file, tmp_path / "t.json")
    assert not (tmp_path / "t.json").exists()


def test_the_verb(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_bytes(receipt("accepted", []))
    done = CliRunner().invoke(
        app, ["attest", str(tmp_path / "s.json"), "--out", str(tmp_path / "t.json"), "--form", "svr"]
    )
    assert done.exit_code == 0 and "svr" in done.stdout and "passed" in done.stdout
