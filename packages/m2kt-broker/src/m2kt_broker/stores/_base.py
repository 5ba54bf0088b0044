"""The interface of a store: it holds bytes under their digest, lists them, and never changes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

Kind = Literal["packets", "records"]
KINDS: tuple[Kind, ...] = ("packets", "records")
CHUNK = 1 << 20


class Store(Protocol):
    """Content-addressed storage. A digest is ``sha256:...`` of the content; each kind has a namespace.

    Every method may raise StorageError (directory) or BrokerError (bucket, registry).
    """

    def put(self, kind: Kind, digest: str, source: Path | bytes, labels: dict[str, str] | None = None) -> None:
        """Store content durably. Storing the same content again has no effect; a failure leaves nothing visible.

        Args:
            source: the content, or a file that holds it; the store may move the file.
            labels: annotations, for stores that support them.
        """

    def size(self, kind: Kind, digest: str) -> int | None:
        """Size in bytes, or None where the store lacks the digest."""

    def read(self, kind: Kind, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the content from ``start`` to ``end`` (exclusive) in chunks."""

    def digests(self, kind: Kind) -> Iterator[str]:
        """Yield all stored digests, in any order."""

    def check(self) -> None:
        """Raise an error unless the store accepts writes."""


def read_all(store: Store, kind: Kind, digest: str) -> bytes:
    """Read the whole content into memory."""
    return b"".join(store.read(kind, digest))


def file_digest(path: Path) -> str:
    """The digest of a file, ``sha256:...``."""
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
