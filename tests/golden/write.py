"""Writes the sample packet of format 2: ``python -m tests.golden.write``. The key is always the same."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from m2kt.packet import Packet
from tests.packet.samples import whole_packet

GOLDEN = Path(__file__).parent / "packet-v2.m2kp"


def main() -> None:
    """Writes the packet, and its digests beside it."""
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key.pem"
        private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"m2kt sample packet").digest())
        key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        whole_packet().save(GOLDEN, key=key)
    packet = Packet.load(GOLDEN)
    assert packet.signature is not None and packet._parts is not None
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in packet._parts.items()}
    recorded = {
        "digest": packet.digest,
        "keyid": packet.signature.keyid,
        "sha256": {GOLDEN.name: hashlib.sha256(GOLDEN.read_bytes()).hexdigest(), **digests},
    }
    GOLDEN.with_suffix(".json").write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
