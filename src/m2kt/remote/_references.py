"""References: where a packet is, as a path or elsewhere; fetched, verified and cached."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from m2kt.errors import BrokerError, PacketError, SpecError, StorageError, TrustError, explain
from m2kt.packet import Packet, read_notice

from ._answers import RecordAnswer
from ._bucket import Bucket
from ._cache import OFFLINE, cached, offline, refuse_remembered, remember_revoked
from ._client import BrokerClient, ByteProgress, broker_url, digest_of
from ._oci import PACKET_ARTEFACT, Repository, manifest_layer, split
from ._releases import accept_release
from ._replies import MAX_PACKET

_REFERENCE = re.compile(r"([a-z0-9]+)://(.+)")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PINNED = re.compile(r"@(sha256:[0-9a-f]{64}|[0-9a-f]{40})$")
_HUB = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def is_reference(packet: str | Path) -> bool:
    """Whether this is a reference and not a path."""
    return isinstance(packet, str) and _REFERENCE.fullmatch(packet) is not None


def open_packet(packet: str | Path | Packet, progress: ByteProgress | None = None) -> Packet:
    """A verified packet, of a path or a reference. Raises what :func:`local_packet` and :meth:`Packet.load` raise."""
    if isinstance(packet, Packet):
        return packet
    loaded = Packet.load(local_packet(packet, progress))
    if is_reference(packet):
        refuse_remembered(loaded, broker_url())
    return loaded


def local_packet(packet: str | Path, progress: ByteProgress | None = None) -> Path:
    """The path of a packet; a reference is fetched first.

    A fetched packet is verified and cached. Its source is asked each time whether it has changed or was revoked, unless
    ``M2KT_OFFLINE=1``.

    Raises:
        SpecError: an unknown scheme, or a malformed reference.
        TrustError: the packet was revoked, or is older than what a tag, branch or key stood for before.
        BrokerError, PacketError, StorageError: it cannot be fetched, or does not verify.
    """
    match = _REFERENCE.fullmatch(packet) if isinstance(packet, str) else None
    if match is None:
        return Path(packet)
    scheme, rest = match.groups()
    if scheme not in _SOURCES:
        known = ", ".join(f"{name}://" for name in _SOURCES)
        raise SpecError(f"expected a path or one of {known}, got {packet!r}; choose one of these schemes")
    path = _SOURCES[scheme](rest, progress or (lambda done, size: None))
    if scheme != "m2kt" and not _PINNED.search(rest):
        accept_release(Packet.load(path), f"{scheme}://{rest}")
    return path


def refuse_revoked(packet: Packet) -> None:
    """Asks the broker at ``M2KT_BROKER_URL``, if it is set, and the recorded revocations, also of merged packets.

    Raises:
        TrustError: the packet is revoked, or one that it was merged from.
        BrokerError: the broker does not answer, and ``M2KT_OFFLINE`` is not set.
    """
    refuse_remembered(packet, broker_url())
    if broker_url() is None or offline():
        return
    merged = packet.manifest.merged
    with BrokerClient() as broker:
        for digest in (packet.digest, *(source.digest for source in (() if merged is None else merged.sources))):
            try:
                record = broker.record(digest)
            except BrokerError as error:
                if error.status == 404:  # the broker does not have the packet, so it cannot have revoked it
                    continue
                raise BrokerError(
                    f"cannot ask whether {digest} was revoked: {error}; {OFFLINE}=1 goes on without", error.status
                ) from error
            _heed(broker, record, digest)


def _heed(broker: BrokerClient, record: RecordAnswer, digest: str) -> None:
    """Raises TrustError where a broker says that a packet is revoked, and records the notice if it is signed."""
    if record["state"] != "revoked":
        return
    reason, envelope = record["state_reason"] or "no reason given", record["state_envelope"]
    try:
        signed = None if envelope is None else read_notice(envelope.encode(), "the notice", digest)
    except PacketError:
        signed = None
    if envelope is None or signed is None or signed.notice.state != "revoked":
        raise TrustError(f"{digest} was revoked at {broker.url}, without a signed notice: {reason}; do not use it")
    remember_revoked(digest, broker.url, envelope.encode())
    raise TrustError(f"{digest} was revoked at {broker.url}: {signed.notice.reason}; do not use it")


def _from_broker(digest: str, progress: ByteProgress) -> Path:
    if not _DIGEST.fullmatch(digest):
        raise SpecError(f"expected m2kt://sha256:<64 hex digits>, got m2kt://{digest}; m2kt search shows digests")
    path = cached("m2kt", digest)
    if offline():
        refuse_remembered(_same(_kept(path, f"m2kt://{digest}"), digest), broker_url())
        return path
    with BrokerClient() as broker:
        try:
            broker.fetch(digest, path, progress)
        except BrokerError as error:
            if error.status == 410:
                _heed(broker, broker.record(digest), digest)
            if path.is_file() and error.status is None:
                raise BrokerError(f"{error}; {OFFLINE}=1 uses the cached copy") from error
            raise
    refuse_remembered(_same(path, digest, "; do not use this broker"), broker_url())
    return path


def _from_registry(name: str, progress: ByteProgress) -> Path:
    _host, _name, reference = split(name)
    if reference is None:
        raise SpecError(f"expected oci://{name}:TAG or oci://{name}@sha256:..., got oci://{name}; add a tag or digest")
    path = cached("oci", name)
    manifest = path.with_suffix(".manifest")
    if offline():
        _kept(path, f"oci://{name}")
        named = manifest_layer(_bytes(manifest), reference, f"oci://{name}").digest
        if (kept := digest_of(path)) != named:
            raise PacketError(f"expected the cached copy {named} of oci://{name}, got {kept}; delete {path}")
        return path
    repository = Repository(name)
    layer = repository.layer(reference)
    if layer is None:
        raise BrokerError(f"expected a packet at oci://{name}, got none; check its name")
    if layer.media_type != PACKET_ARTEFACT.media_type:
        raise PacketError(
            f"expected a packet ({PACKET_ARTEFACT.media_type}) at oci://{name}, got {layer.media_type}; name another"
        )
    if path.is_file() and digest_of(path) == layer.digest:
        _write(manifest, iter([layer.manifest]), len(layer.manifest), lambda done, size: None)
        return path
    _write(path, repository.read(layer.digest), min(layer.size, MAX_PACKET), progress)
    if (received := digest_of(path)) != layer.digest:
        path.unlink()
        raise PacketError(f"expected {layer.digest} at oci://{name}, got {received}: damaged in transfer; try again")
    _checked(path)
    _write(manifest, iter([layer.manifest]), len(layer.manifest), progress)
    return path


def _from_bucket(key: str, progress: ByteProgress) -> Path:
    path = cached("s3", key)
    if offline():
        return _kept(path, f"s3://{key}")
    folder, _, name = key.rpartition("/")
    bucket = Bucket(folder)
    size = bucket.size(name)
    if size is None:
        raise BrokerError(f"expected a packet at s3://{key}, got none; check its name")
    version = path.with_suffix(".version")
    if not (path.is_file() and version.is_file() and version.read_text() == bucket.version(name)):
        version.unlink(missing_ok=True)
        _write(path, bucket.read(name), size, progress)
        version.write_text(bucket.version(name))
    _checked(path)
    return path


def _from_hub(name: str, progress: ByteProgress) -> Path:
    match = _HUB.fullmatch(name)
    if match is None:
        raise SpecError(f"expected hf://owner/name or hf://owner/name@revision, got hf://{name}")
    path = cached("hf", name)
    if offline():
        return _kept(path, f"hf://{name}")
    Packet.from_pretrained(match["name"], revision=match["revision"]).save(path)
    return path


_SOURCES: dict[str, Callable[[str, ByteProgress], Path]] = {
    "m2kt": _from_broker,
    "oci": _from_registry,
    "hf": _from_hub,
    "s3": _from_bucket,
}


def _kept(path: Path, reference: str) -> Path:
    if not path.is_file():
        raise BrokerError(
            f"expected a cached copy of {reference}, for {OFFLINE} is set, got none; unset it, or give a path"
        )
    return path


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _same(path: Path, digest: str, advice: str = "; fetch it again") -> Packet:
    """The packet at ``path``, if it has this digest; else the file is removed. Raises PacketError."""
    packet = _checked(path)
    if packet.digest != digest:
        path.unlink()
        raise PacketError(f"expected the packet {digest}, got {packet.digest}{advice}")
    return packet


def _checked(path: Path) -> Packet:
    try:
        return Packet.load(path)
    except PacketError:
        path.unlink()
        raise


def _write(path: Path, pieces: Iterator[bytes], size: int, progress: ByteProgress) -> None:
    """Writes aside, then renames."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as file:
            aside = Path(file.name)
            try:
                done = 0
                for piece in pieces:
                    done += len(piece)
                    if done > size:
                        raise BrokerError(f"expected {size:,} bytes for {path.name}, got more; do not use this source")
                    file.write(piece)
                    progress(done, size)
                file.close()
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {explain(error)}; free some space") from error
