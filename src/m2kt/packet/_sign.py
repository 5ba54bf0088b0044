"""sigma, the signature: Ed25519 in a DSSE envelope over an in-toto Statement whose subjects are all files.

The public key travels in the statement's predicate, so that integrity can be checked by anyone; whom to trust is a
question for a policy, which compares the key's id.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from m2kt._home import m2kt_home
from m2kt.errors import PacketError, StorageError

from ._manifest import canonical_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:m2kt:packet:v1"


@dataclass(frozen=True)
class Signature:
    """Who signed, as the packet itself says and its signature proves."""

    keyid: str
    public_key: dict[str, Any]


def local_key(path: Path | None = None) -> Path:
    """The local Ed25519 key, made on first use, readable by its owner alone."""
    path = path or m2kt_home() / "keys" / "ed25519.pem"
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".ed25519-", delete=False) as aside:
            os.fchmod(aside.fileno(), 0o600)
            aside.write(CryptoSigner.generate_ed25519().private_bytes)
        with contextlib.suppress(FileExistsError):  # another process was first: its key is the key
            os.link(aside.name, path)
        Path(aside.name).unlink()
    except OSError as error:
        raise StorageError(
            f"cannot write the signing key {path}: {error}; set M2KT_HOME elsewhere"
        ) from error
    return path


def sign_files(files: dict[str, bytes], name: str, key: Path | None = None) -> bytes:
    """The bytes of ``signature.json`` over all ``files``."""
    signer = _signer(local_key(key))
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": file, "digest": {"sha256": hashlib.sha256(content).hexdigest()}}
            for file, content in sorted(files.items())
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "packet": name,
            "key": {"keyid": signer.public_key.keyid, **signer.public_key.to_dict()},
        },
    }
    envelope = Envelope(canonical_json(statement), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return canonical_json(envelope.to_dict())


def verify_files(files: dict[str, bytes], signature: bytes, where: str) -> Signature:
    """Check a signature over all files of a packet.

    Raises:
        PacketError: a file was edited, added or removed, or the signature is not one.
    """
    statement, envelope = _open_envelope(signature, where)
    try:
        key_data = dict(statement["predicate"]["key"])
        keyid = key_data.pop("keyid")
        public = SSlibKey.from_dict(keyid, json.loads(json.dumps(key_data)))
        if (public.keytype, public.scheme) != ("ed25519", "ed25519"):
            raise PacketError(
                f"{where}: expected an ed25519 signature, came {public.keytype}/{public.scheme}"
            )
        envelope.verify([public], 1)
        subjects = {s["name"]: s["digest"]["sha256"] for s in statement["subject"]}
    except PacketError:
        raise
    except Exception as error:  # securesystemslib has many ways to say that it is not a signature
        raise PacketError(
            f"{where}: the signature does not verify ({error}); do not use this packet"
        ) from error
    if SSlibKey.from_crypto(public._crypto_key()).keyid != keyid:
        raise PacketError(
            f"{where}: the signature's key id does not belong to its key; do not use this packet"
        )
    for file in sorted(subjects.keys() ^ files.keys()):
        raise PacketError(
            f"{where}: {file} is {'missing' if file in subjects else 'not covered by the signature'}"
        )
    for file, content in files.items():
        came = hashlib.sha256(content).hexdigest()
        if came != subjects[file]:
            raise PacketError(
                f"{where}: {file} was edited after signing: expected sha256 {subjects[file][:16]}..., "
                f"came {came[:16]}...; get the packet again"
            )
    return Signature(keyid, {"keyid": keyid, **key_data})


def _open_envelope(signature: bytes, where: str) -> tuple[dict[str, Any], Envelope]:
    try:
        envelope = Envelope.from_dict(json.loads(signature))
        statement = json.loads(envelope.payload)
        kind = (envelope.payload_type, statement["_type"], statement["predicateType"])
    except Exception as error:  # any failure to parse means the same
        raise PacketError(
            f"{where}: signature.json is no DSSE envelope ({error}); the packet is damaged"
        ) from error
    if kind != (PAYLOAD_TYPE, STATEMENT_TYPE, PREDICATE_TYPE):
        raise PacketError(f"{where}: signature.json signs something else than a packet: {kind}")
    # only one way of writing a signature is accepted: no slack bits, spaces or extra keys to play with
    if canonical_json(envelope.to_dict()) != signature:
        raise PacketError(f"{where}: signature.json is not in canonical form; the packet was edited")
    return statement, envelope


def _signer(path: Path) -> CryptoSigner:
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(
            f"cannot read the signing key {path}: {error}; move it away to have a new one"
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise StorageError(f"{path}: expected an Ed25519 private key, came {type(private).__name__}")
    return CryptoSigner(private)
