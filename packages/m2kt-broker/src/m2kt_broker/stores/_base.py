"""What every store does: it keeps bytes under their digest, and can list them. Nothing is ever changed in place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

Kind = Literal["packets", "records"]
KINDS: tuple[Kind, ...] = ("packets", "records")
CHUNK = 1 << 20


class Store(Protocol):
    """A place for bytes. Digests are ``sha256:...`` of what is stored; kinds keep packets and records apart.

    Every call may raise StorageError (of a disk) or BrokerError (of a bucket or registry).
    """

    def put(
        self, kind: Kind, digest: str, source: Path | bytes, labels: dict[str, str] | None = None
    ) -> None:
        """Keeps the bytes; when this returns they survive a crash. The same again is no error.

        Args:
            source: the bytes, or a file that holds them; the file may be moved away.
            labels: shown beside the bytes where the store can do that.

        When it fails nothing is visible.
        """

    def size(self, kind: Kind, digest: str) -> int | None:
        """Bytes, or None where there is no such thing."""

    def read(self, kind: Kind, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` to before ``end``, in pieces."""

    def digests(self, kind: Kind) -> Iterator[str]:
        """All that is there, in no order."""

    def check(self) -> None:
        """Raises where nothing could be stored now."""


def read_all(store: Store, kind: Kind, digest: str) -> bytes:
    """The bytes at once."""
    return b"".join(store.read(kind, digest))
