"""A packet's place: a path, or a reference to one elsewhere. The one function that turns either into a path."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from m2kt.errors import BrokerError, PacketError, SpecError, StorageError, TrustError, explain
from m2kt.packet import Packet

from ._bucket import Bucket
from ._cache import OFFLINE, cached, offline, refuse_remembered, remember_revoked
from ._client import BrokerClient, Said, digest_of
from ._oci import PACKET_ARTEFACT, Repository, split

_REFERENCE = re.compile(r"([a-z0-9]+)://(.+)")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HUB = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def is_reference(place: str | Path) -> bool:
    """Whether this is no path."""
    return isinstance(place, str) and _REFERENCE.fullmatch(place) is not None


def open_packet(place: str | Path | Packet, said: Said | None = None) -> Packet:
    """A packet from wherever it is, checked. Raises what :func:`local_packet` and :meth:`Packet.load` raise."""
    return place if isinstance(place, Packet) else Packet.load(local_packet(place, said))


def local_packet(place: str | Path, said: Said | None = None) -> Path:
    """Where a packet lies on this machine, brought here first if it is a reference.

    What was brought is checked as :meth:`Packet.load` does it, and kept; its source is asked each time whether it
    changed or was revoked, unless ``M2KT_OFFLINE=1``.

    Raises:
        SpecError: a scheme or a form that is not known.
        TrustError: the packet was revoked.
        BrokerError, PacketError, StorageError: it could not be brought, or is not what it should be.
    """
    match = _REFERENCE.fullmatch(place) if isinstance(place, str) else None
    if match is None:
        return Path(place)
    scheme, rest = match.groups()
    if scheme not in _SOURCES:
        known = ", ".join(f"{name}://" for name in _SOURCES)
        raise SpecError(f"expected a path or one of {known}; came {place!r}")
    return _SOURCES[scheme](rest, said or (lambda done, size: None))


def _from_broker(digest: str, said: Said) -> Path:
    if not _DIGEST.fullmatch(digest):
        raise SpecError(
            f"expected m2kt://sha256:<64 hex digits>, came m2kt://{digest}; m2kt search shows digests"
        )
    refuse_remembered(digest)
    path = cached("m2kt", digest)
    if offline():
        return _kept(path, f"m2kt://{digest}")
    with BrokerClient() as broker:
        try:
            broker.fetch(digest, path, said)
        except BrokerError as error:
            if error.status == 410:
                remember_revoked(digest, broker.url, str(error))
                raise TrustError(f"{error}") from error
            if path.is_file() and error.status is None:
                raise BrokerError(f"{error}; {OFFLINE}=1 uses the copy that is here") from error
            raise
    came = _checked(path).digest
    if came != digest:
        path.unlink()
        raise PacketError(f"the broker gave the packet {came}, expected {digest}; do not use this broker")
    return path


def _from_registry(place: str, said: Said) -> Path:
    _host, _name, reference = split(place)
    if reference is None:
        raise SpecError(f"expected oci://{place}:TAG or oci://{place}@sha256:...")
    pointer = cached("oci", place)
    if offline():
        return _kept(pointer, f"oci://{place}")
    repository = Repository(place)
    layer = repository.layer(reference)
    if layer is None:
        raise BrokerError(f"there is no oci://{place}")
    if layer.media_type != PACKET_ARTEFACT.media_type:
        raise PacketError(
            f"oci://{place} holds {layer.media_type}, expected a packet ({PACKET_ARTEFACT.media_type})"
        )
    if pointer.is_file() and digest_of(pointer) == layer.digest:
        return pointer
    _write(pointer, repository.read(layer.digest), layer.size, said)
    if (came := digest_of(pointer)) != layer.digest:
        pointer.unlink()
        raise PacketError(
            f"oci://{place} came as {came}, expected {layer.digest}: damaged on its way; try again"
        )
    _checked(pointer)
    return pointer


def _from_bucket(place: str, said: Said) -> Path:
    path = cached("s3", place)
    if offline():
        return _kept(path, f"s3://{place}")
    folder, _, name = place.rpartition("/")
    bucket = Bucket(folder)
    size = bucket.size(name)
    if size is None:
        raise BrokerError(f"there is no s3://{place}")
    version = path.with_suffix(".version")
    if not (path.is_file() and version.is_file() and version.read_text() == bucket.version(name)):
        version.unlink(missing_ok=True)
        _write(path, bucket.read(name), size, said)
        version.write_text(bucket.version(name))
    _checked(path)
    return path


def _from_hub(place: str, said: Said) -> Path:
    match = _HUB.fullmatch(place)
    if match is None:
        raise SpecError(f"expected hf://owner/name or hf://owner/name@revision, came hf://{place}")
    path = cached("hf", place)
    if offline():
        return _kept(path, f"hf://{place}")
    Packet.from_pretrained(match["name"], revision=match["revision"]).save(path)
    return path


_SOURCES: dict[str, Callable[[str, Said], Path]] = {
    "m2kt": _from_broker,
    "oci": _from_registry,
    "hf": _from_hub,
    "s3": _from_bucket,
}


def _kept(path: Path, reference: str) -> Path:
    if not path.is_file():
        raise BrokerError(
            f"{reference} is not here, and {OFFLINE} says to ask nobody; unset it, or give a path"
        )
    return path


def _checked(path: Path) -> Packet:
    try:
        return Packet.load(path)
    except PacketError:
        path.unlink()
        raise


def _write(path: Path, pieces: Iterator[bytes], size: int, said: Said) -> None:
    """Aside, then renamed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".coming-", delete=False) as file:
            aside = Path(file.name)
            try:
                done = 0
                for piece in pieces:
                    file.write(piece)
                    done += len(piece)
                    said(done, size)
                file.close()
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {explain(error)}; free some space") from error
