"""A store in an OCI registry: one artefact for each digest, with the digest as its tag.

Any registry can hold and replicate it; ``oras pull`` and ``m2kt pull oci://...`` read it without a broker.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from m2kt.errors import BrokerError
from m2kt.remote import PACKET_ARTEFACT, RECORD_ARTEFACT, Repository

from ._base import KINDS, Kind

_ARTEFACTS = {"packets": PACKET_ARTEFACT, "records": RECORD_ARTEFACT}


class RegistryStore:
    """The repositories ``HOST/NAME/packets`` and ``HOST/NAME/records``."""

    def __init__(self, location: str) -> None:
        self._repositories = {kind: Repository(f"{location.rstrip('/')}/{kind}") for kind in KINDS}

    def put(self, kind: Kind, digest: str, source: Path | bytes, labels: dict[str, str] | None = None) -> None:
        if self.size(kind, digest) is None:
            self._repositories[kind].push(_tag(digest), source, digest, _ARTEFACTS[kind], labels)

    def size(self, kind: Kind, digest: str) -> int | None:
        layer = self._repositories[kind].layer(_tag(digest))
        if layer is not None and layer.digest != digest:
            raise BrokerError(
                f"expected the layer {digest} under its tag, got {layer.digest}; delete the tag in the registry"
            )
        return None if layer is None else layer.size

    def read(self, kind: Kind, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        return self._repositories[kind].read(digest, start, end)

    def digests(self, kind: Kind) -> Iterator[str]:
        for tag in self._repositories[kind].tags():
            yield f"sha256:{tag}"

    def check(self) -> None:
        self._repositories["packets"].check()


def _tag(digest: str) -> str:
    return digest.removeprefix("sha256:")
