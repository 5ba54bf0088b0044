"""A packet's place: a path, or a reference to one elsewhere. The one function that turns either into a path."""

from __future__ import annotations

import re
from pathlib import Path

from m2kt._home import m2kt_home
from m2kt.errors import PacketError, SpecError
from m2kt.packet import Packet

from ._client import BrokerClient, Said

SCHEMES = ("m2kt", "oci", "hf", "s3")
_REFERENCE = re.compile(r"([a-z0-9]+)://(.+)")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_reference(place: str | Path) -> bool:
    """Whether this is no path."""
    return isinstance(place, str) and _REFERENCE.fullmatch(place) is not None


def local_packet(place: str | Path, said: Said | None = None) -> Path:
    """Where a packet lies on this machine, brought here first if it is a reference.

    Raises:
        SpecError: a scheme or a form that is not known.
        BrokerError, PacketError, StorageError: it could not be brought, or is not what it should be.
    """
    match = _REFERENCE.fullmatch(str(place)) if isinstance(place, str) else None
    if match is None:
        return Path(place)
    scheme, rest = match.groups()
    if scheme != "m2kt":
        raise SpecError(f"expected a path or a reference by {', '.join(SCHEMES)}, came {place!r}")
    if not _DIGEST.fullmatch(rest):
        raise SpecError(f"expected m2kt://sha256:<64 hex digits>, came {place!r}; m2kt search shows digests")
    return _from_broker(rest, said)


def _from_broker(digest: str, said: Said | None) -> Path:
    path = m2kt_home() / "packets" / f"{digest.removeprefix('sha256:')}.m2kp"
    with BrokerClient() as broker:
        broker.fetch(digest, path, said)
    came = Packet.load(path).digest
    if came != digest:
        path.unlink()
        raise PacketError(f"the broker gave the packet {came}, expected {digest}; do not use this broker")
    return path
