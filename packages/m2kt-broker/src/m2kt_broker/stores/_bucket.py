"""A store in an S3 bucket: the objects ``BUCKET/PREFIX/packets/abcd...`` and ``BUCKET/PREFIX/records/abcd...``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from m2kt.remote import Bucket

from ._base import Kind

_NAME = re.compile(r"[0-9a-f]{64}")


class BucketStore:
    """One object for each digest. S3 writes objects atomically."""

    def __init__(self, location: str) -> None:
        self._bucket = Bucket(location)

    def put(self, kind: Kind, digest: str, source: Path | bytes, labels: dict[str, str] | None = None) -> None:
        if self.size(kind, digest) is None:
            self._bucket.put(_name(kind, digest), source)

    def size(self, kind: Kind, digest: str) -> int | None:
        return self._bucket.size(_name(kind, digest))

    def read(self, kind: Kind, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        return self._bucket.read(_name(kind, digest), start, end)

    def digests(self, kind: Kind) -> Iterator[str]:
        for name in self._bucket.names(kind):
            if _NAME.fullmatch(name):
                yield f"sha256:{name}"

    def check(self) -> None:
        self._bucket.check()


def _name(kind: Kind, digest: str) -> str:
    return f"{kind}/{digest.removeprefix('sha256:')}"
