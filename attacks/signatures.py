"""Attacks by the signature."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from m2kt.packet._json import canonical_json
from m2kt.packet._parts import CARD, GRAPH, MANIFEST, SIGNATURE
from m2kt.packet._sign import sign_files

from ._forge import Parts, attacker, edited, good, parts_attack, replaced, resign


def _envelope(change: Callable[[Any], Any]) -> Callable[[Parts], Parts]:
    return edited(SIGNATURE, change)


def _statement(change: Callable[[Any], Any]) -> Callable[[Parts], Parts]:
    """The statement changed below its signature."""

    def apply(envelope: dict[str, Any]) -> None:
        statement = json.loads(base64.b64decode(envelope["payload"]))
        change(statement)
        envelope["payload"] = base64.b64encode(canonical_json(statement)).decode()

    return _envelope(apply)


def _statement_text(old: str, new: str) -> Callable[[Parts], Parts]:
    """The statement's text changed, as no writer of JSON would."""

    def apply(envelope: dict[str, Any]) -> None:
        payload = base64.b64decode(envelope["payload"])
        assert old.encode() in payload
        envelope["payload"] = base64.b64encode(payload.replace(old.encode(), new.encode())).decode()

    return _theirs(apply)


def _theirs(change: Callable[[Any], Any]) -> Callable[[Parts], Parts]:
    """The attacker's signature, then changed."""
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
    """Signed in order, but the manifest's own digests are of other files."""
    signed = edited(MANIFEST, lambda m: m["files"].update({GRAPH: "0" * 64}))(parts)
    unsigned = {name: content for name, content in signed.items() if name != SIGNATURE}
    return {**unsigned, SIGNATURE: sign_files(unsigned, "hostile", attacker())}


def _ledger_lies(parts: Parts) -> Parts:
    signed = edited(MANIFEST, lambda m: m["ledger"].update(concepts=1_000_000))(parts)
    unsigned = {name: content for name, content in signed.items() if name != SIGNATURE}
    return {**unsigned, SIGNATURE: sign_files(unsigned, "hostile", attacker())}


def _owner_key(statement: dict[str, Any]) -> None:
    """The owner's key id over the attacker's key."""
    theirs = json.loads(base64.b64decode(json.loads(resign(good())[SIGNATURE])["payload"]))["predicate"][
        "key"
    ]
    statement["predicate"]["key"]["keyval"] = theirs["keyval"]


def _more(envelope: dict[str, Any]) -> None:
    envelope["signatures"].append({"keyid": "f" * 64, "sig": base64.b64encode(bytes(64)).decode()})


for name, tries, refusal, change in (
    ("signature-emptied", "the signature stripped off", "no DSSE envelope", lambda parts: parts | {SIGNATURE: b"{}\n"}),
    ("signature-no-signatures", "an envelope without signatures", "no DSSE envelope", _envelope(lambda e: e.update(signatures=[]))),
    ("signature-of-another", "the signature of another packet", "edited after signing", _of_another),
    ("signature-other-content", "a byte changed below a good signature", "edited after signing", replaced(GRAPH, b"rule 1", b"rule 2")),
    ("signature-other-statement", "a digest changed within the signed statement", "does not verify", _statement(lambda s: s["subject"][0]["digest"].update(sha256="0" * 64))),
    ("signature-surrogate", "half a character in the signed statement, which nothing can write", "no in-toto statement", _statement_text('"hostile"', '"\\ud800"')),
    ("signature-owner-key", "the attacker's key below the owner's id", "does not verify", _statement(_owner_key)),
    ("signature-covers-less", "a signature that leaves out the card", "not covered", _covers_less),
    ("signature-covers-more", "a signature that covers a file that is not there", "missing", _covers_more),
    ("signature-second", "a second signature that nobody can check", "public key", _theirs(_more)),
    ("signature-twice", "one signature twice", "two signatures", _theirs(lambda e: e["signatures"].append(e["signatures"][0]))),
    ("signature-unknown-field", "a field beside the signature, which it does not cover", "no DSSE envelope", _envelope(lambda e: e["signatures"][0].update(note="x"))),
    ("signature-other-payload", "a signature over another kind of statement", "no DSSE envelope", _envelope(lambda e: e.update(payloadType="text/plain"))),
    ("signature-slack-bits", "other base64 of the same bytes", "no DSSE|canonical", _envelope(lambda e: e.update(payload=e["payload"].rstrip("=") + "\n"))),
    ("signature-deep", "brackets in place of a signature", "nested deeper", lambda parts: parts | {SIGNATURE: b"[" * 100_000}),
    ("signature-manifest-lies", "digests in the manifest that are of other files", "digest that manifest", _manifest_lies),
    ("signature-ledger-lies", "a ledger that counts other concepts than there are", "counts", _ledger_lies),
):  # fmt: skip
    parts_attack(name, tries, refusal, change, signed=False)
