"""Attacks by the signature."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import SSlibKey

from m2kt.packet._envelope import PAYLOAD_TYPE, STATEMENT_TYPE
from m2kt.packet._json import canonical_json
from m2kt.packet._parts import CARD, MANIFEST, PROGRAM, SIGNATURE
from m2kt.packet._sign import PREDICATE_TYPE, sign_files

from ._forge import Parts, attacker, edited, good, parts_attack, replaced, resign


def _envelope(change: Callable[[Any], Any]) -> Callable[[Parts], Parts]:
    return edited(SIGNATURE, change)


def _statement(change: Callable[[Any], Any]) -> Callable[[Parts], Parts]:
    """The statement changed, its signature kept."""

    def apply(envelope: dict[str, Any]) -> None:
        statement = json.loads(base64.b64decode(envelope["payload"]))
        change(statement)
        envelope["payload"] = base64.b64encode(canonical_json(statement)).decode()

    return _envelope(apply)


def _statement_text(old: str, new: str) -> Callable[[Parts], Parts]:
    """The statement's text changed to what no JSON writer would write."""

    def apply(envelope: dict[str, Any]) -> None:
        payload = base64.b64decode(envelope["payload"])
        assert old.encode() in payload
        envelope["payload"] = base64.b64encode(payload.replace(old.encode(), new.encode())).decode()

    return _by_attacker(apply)


def _by_attacker(change: Callable[[Any], Any]) -> Callable[[Parts], Parts]:
    """Signed by the attacker, then changed."""
    return lambda parts: _envelope(change)(resign(parts))


def _of_another(parts: Parts) -> Parts:
    other = resign(edited(MANIFEST, lambda m: m.update(name="other"))(parts))
    return parts | {SIGNATURE: other[SIGNATURE]}


def _covers_less(parts: Parts) -> Parts:
    covered = {name: content for name, content in parts.items() if name not in (SIGNATURE, CARD)}
    return parts | {SIGNATURE: sign_files(covered, "hostile", attacker())}


def _covers_more(parts: Parts) -> Parts:
    covered = {name: content for name, content in parts.items() if name != SIGNATURE}
    return parts | {SIGNATURE: sign_files({**covered, "../evil": b"x"}, "hostile", attacker())}


def _manifest_lies(parts: Parts) -> Parts:
    """A valid signature over a manifest with wrong digests."""
    signed = edited(MANIFEST, lambda m: m["files"].update({PROGRAM: "0" * 64}))(parts)
    unsigned = {name: content for name, content in signed.items() if name != SIGNATURE}
    return {**unsigned, SIGNATURE: sign_files(unsigned, "hostile", attacker())}


def _ledger_lies(parts: Parts) -> Parts:
    signed = edited(MANIFEST, lambda m: m["ledger"].update(concepts=1_000_000))(parts)
    unsigned = {name: content for name, content in signed.items() if name != SIGNATURE}
    return {**unsigned, SIGNATURE: sign_files(unsigned, "hostile", attacker())}


def _owner_key(statement: dict[str, Any]) -> None:
    """The owner's key id over the attacker's key."""
    key = json.loads(base64.b64decode(json.loads(resign(good())[SIGNATURE])["payload"]))["predicate"]["key"]
    statement["predicate"]["key"]["keyval"] = key["keyval"]


def _without_private_key(parts: Parts) -> Parts:
    """The neutral point of the curve is a public key for which (point, 0) signs any message."""
    point = bytes([1]) + bytes(31)
    key = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(point))
    subjects = [
        {"name": name, "digest": {"sha256": hashlib.sha256(parts[name]).hexdigest()}}
        for name in sorted(parts.keys() - {SIGNATURE})
    ]
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": {"packet": "hostile", "key": {"keyid": key.keyid, **key.to_dict()}},
    }
    envelope = {
        "payload": base64.b64encode(canonical_json(statement)).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key.keyid, "sig": base64.b64encode(point + bytes(32)).decode()}],
    }
    return parts | {SIGNATURE: canonical_json(envelope)}


def _more(envelope: dict[str, Any]) -> None:
    envelope["signatures"].append({"keyid": "f" * 64, "sig": base64.b64encode(bytes(64)).decode()})


for name, tries, refusal, change in (
    ("signature-emptied", "no signature", "no DSSE envelope", lambda parts: parts | {SIGNATURE: b"{}\n"}),
    ("signature-no-signatures", "an envelope without signatures", "no DSSE envelope", _envelope(lambda e: e.update(signatures=[]))),
    ("signature-of-another", "the signature of another packet", "edited after signing", _of_another),
    ("signature-other-content", "a byte changed, the signature kept", "edited after signing", replaced(PROGRAM, b"rule 1", b"rule 2")),
    ("signature-other-statement", "a digest changed within the signed statement", "does not verify", _statement(lambda s: s["subject"][0]["digest"].update(sha256="0" * 64))),
    ("signature-surrogate", "half a character in the signed statement, which no writer can write", "no in-toto statement", _statement_text('"hostile"', '"\\ud800"')),
    ("signature-owner-key", "the attacker's key below the owner's id", "does not verify", _statement(_owner_key)),
    ("signature-without-key", "a public key for which anybody can sign", "small order", _without_private_key),
    ("signature-covers-less", "a signature that leaves out the card", "not covered", _covers_less),
    ("signature-covers-more", "a signature that covers a file that does not exist", "missing", _covers_more),
    ("signature-second", "a second signature without a public key", "public key", _by_attacker(_more)),
    ("signature-twice", "one signature twice", "two signatures", _by_attacker(lambda e: e["signatures"].append(e["signatures"][0]))),
    ("signature-unknown-field", "a field beside the signature, which it does not cover", "no DSSE envelope", _envelope(lambda e: e["signatures"][0].update(note="x"))),
    ("signature-other-payload", "a signature over another kind of statement", "no DSSE envelope", _envelope(lambda e: e.update(payloadType="text/plain"))),
    ("signature-slack-bits", "other base64 of the same bytes", "no DSSE|canonical", _envelope(lambda e: e.update(payload=e["payload"].rstrip("=") + "\n"))),
    ("signature-deep", "brackets instead of a signature", "nested deeper", lambda parts: parts | {SIGNATURE: b"[" * 100_000}),
    ("signature-manifest-lies", "digests in the manifest that are of other files", "digest in manifest", _manifest_lies),
    ("signature-ledger-lies", "a ledger that counts a wrong number of concepts", "counts", _ledger_lies),
):  # fmt: skip
    parts_attack(name, tries, refusal, change, signed=False)
