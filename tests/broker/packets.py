"""Sample packets and receipts, and a client that calls a broker with the API key of a role."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import httpx2
from starlette.testclient import TestClient

from m2kt.packet import RECEIPT, Packet, PacketState, local_key, show_key, sign_notice, sign_statement
from tests.packet.samples import sample_packet
from tests.packet.trusting import EXPIRES, key

_KEYS = tempfile.TemporaryDirectory()
AUTHOR = local_key(Path(_KEYS.name) / "author.pem")
"""The key behind samples and statements of no named signer; some samples are made before there is a home for tests."""
STATEMENT = {"Content-Type": "application/vnd.in-toto+json"}


@dataclass
class ApiClient:
    """A client and an API key for each role."""

    client: TestClient
    keys: dict[str, str]

    def __call__(self, method: str, path: str, role: str | None = "publisher", **request: Any) -> httpx2.Response:
        headers = {
            **(STATEMENT if method == "POST" and "content" in request else {}),
            **({"Authorization": f"Bearer {self.keys[role]}"} if role else {}),
            **request.pop("headers", {}),
        }
        answer: httpx2.Response = self.client.request(method, path, headers=headers, **request)
        return answer

    def publish(self, packet: SamplePacket, role: str = "publisher") -> httpx2.Response:
        return self("PUT", f"/v1/packets/{packet.digest}", role, content=packet.content)


@dataclass(frozen=True)
class SamplePacket:
    """A packet in its single-file form."""

    digest: str
    content: bytes

    def at(self, path: Path) -> Path:
        """Write the file."""
        path.write_bytes(self.content)
        return path


def _key(signer: str | None) -> Path:
    return AUTHOR if signer is None else Path(key(signer).path)


def author() -> dict[str, Any]:
    """The entry of the samples' author in a trust policy."""
    info = show_key(AUTHOR)
    entry = {"keyid": info.keyid, "public_key": info.public_key, "owner": "us", "roles": ["teacher"]}
    return {**entry, "expires": EXPIRES}


@cache
def sample(seed: int = 0, signer: str | None = None, width: int = 4, **manifest: Any) -> SamplePacket:
    """A small packet; each seed gives another one."""
    packet = sample_packet(seed=seed, width=width, **manifest)
    with tempfile.TemporaryDirectory() as folder:
        file = packet.save(Path(folder) / "packet.m2kp", key=_key(signer))
        return SamplePacket(Packet.load(file).digest, file.read_bytes())


def cosigned(packet: SamplePacket, signer: str) -> SamplePacket:
    """The same packet with another signature."""
    from m2kt.packet import cosign

    with tempfile.TemporaryDirectory() as folder:
        file = packet.at(Path(folder) / "packet.m2kp")
        cosign(file, key(signer).path)
        return SamplePacket(packet.digest, file.read_bytes())


def notice(digest: str, state: str, reason: str = "a test", signer: str | None = None) -> dict[str, Any]:
    """A request that changes a packet's state by a signed notice, by default of the local key."""
    envelope = sign_notice(digest, cast(PacketState, state), reason, _key(signer))
    return {"content": envelope, "headers": STATEMENT}


def recut(packet: SamplePacket, signer: str) -> SamplePacket:
    """The same parts, signed by another author: the digest is the same."""
    with tempfile.TemporaryDirectory() as folder:
        loaded = Packet.load(packet.at(Path(folder) / "packet.m2kp"))
        file = loaded.replace().save(Path(folder) / "again.m2kp", key=Path(key(signer).path))
        return SamplePacket(Packet.load(file).digest, file.read_bytes())


def receipt(
    digest: str,
    verdict: str = "accepted",
    adapter: str | None = "sha256:" + "a" * 64,
    signer: str | None = None,
    **fields: Any,
) -> bytes:
    """A signed receipt with the fields that a broker reads."""
    predicate = {
        "base_model": {"name": "zoo:pico-llama", "digest": "sha256:" + "5" * 64},
        "before": {"accuracy": 0.0, "adapter": None},
        "after": {"accuracy": 0.98, "adapter": adapter if verdict == "accepted" else None},
        "verdict": verdict,
        **fields,
    }
    return sign_statement(RECEIPT, digest, predicate, key=_key(signer))
