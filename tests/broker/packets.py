"""Sample packets and receipts, and a client that calls a broker with the API key of a role."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
from starlette.testclient import TestClient

from m2kt.packet import RECEIPT, Packet, sign_statement
from tests.packet.samples import sample_packet
from tests.packet.trusting import key

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


@cache
def sample(seed: int = 0, signer: str | None = None, width: int = 4, **manifest: Any) -> SamplePacket:
    """A small packet; each seed gives another one."""
    packet = sample_packet(seed=seed, width=width, **manifest)
    with tempfile.TemporaryDirectory() as folder:
        file = packet.save(Path(folder) / "packet.m2kp", key=None if signer is None else Path(key(signer).path))
        return SamplePacket(Packet.load(file).digest, file.read_bytes())


def cosigned(packet: SamplePacket, signer: str) -> SamplePacket:
    """The same packet with another signature."""
    from m2kt.packet import cosign

    with tempfile.TemporaryDirectory() as folder:
        file = packet.at(Path(folder) / "packet.m2kp")
        cosign(file, key(signer).path)
        return SamplePacket(packet.digest, file.read_bytes())


def receipt(digest: str, verdict: str = "accepted", adapter: str | None = "sha256:" + "a" * 64, **fields: Any) -> bytes:
    """A signed receipt with the fields that a broker reads."""
    predicate = {
        "base_model": {"name": "zoo:pico-llama", "digest": "sha256:" + "5" * 64},
        "before": {"accuracy": 0.0, "adapter": None},
        "after": {"accuracy": 0.98, "adapter": adapter if verdict == "accepted" else None},
        "verdict": verdict,
        **fields,
    }
    return sign_statement(RECEIPT, digest, predicate)
