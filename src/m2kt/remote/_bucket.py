"""Objects of an S3 bucket, by ``fsspec``. Keys and endpoint come from AWS' own settings (``AWS_ENDPOINT_URL``, ...)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from m2kt.errors import BrokerError, SpecError, explain

PIECE = 1 << 20


class Bucket:
    """Objects below ``BUCKET/PREFIX``. Every call may raise BrokerError."""

    def __init__(self, place: str) -> None:
        self._root = place.rstrip("/")
        try:
            import fsspec

            # other processes write too: nothing that was seen once may be remembered
            self._files: Any = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
        except ImportError as error:
            raise SpecError(f"s3:// needs s3fs ({error}): pip install 'm2kt[broker]'") from error

    def put(self, name: str, source: Path | bytes) -> None:
        """One object, there with all its bytes or not at all."""
        with self._asking(f"write {name}"):
            if isinstance(source, bytes):
                self._files.pipe_file(self._at(name), source)
            else:
                self._files.put_file(str(source), self._at(name))

    def size(self, name: str) -> int | None:
        """Bytes of an object; None where there is none."""
        with self._asking(f"look for {name}"):
            try:
                return int(self._files.info(self._at(name))["size"])
            except FileNotFoundError:
                return None

    def version(self, name: str) -> str:
        """Changes whenever the object does."""
        with self._asking(f"look for {name}"):
            return str(self._files.info(self._at(name))["ETag"]).strip('"')

    def read(self, name: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes from ``start`` to before ``end``."""
        size = self.size(name)
        if size is None:
            raise BrokerError(f"there is no s3://{self._at(name)}")
        end = size if end is None else min(end, size)
        for at in range(start, end, PIECE):
            with self._asking(f"read {name}"):
                piece: bytes = self._files.cat_file(self._at(name), start=at, end=min(at + PIECE, end))
            yield piece

    def names(self, below: str) -> Iterator[str]:
        """The last parts of all names below a prefix."""
        with self._asking(f"list {below}"):
            try:
                found = self._files.find(self._at(below))
            except FileNotFoundError:
                return
        for path in found:
            yield path.rpartition("/")[2]

    def check(self) -> None:
        """Raises BrokerError where the bucket does not answer."""
        with self._asking("ask the bucket"):
            self._files.ls(self._root.partition("/")[0])

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (OSError, BotoCoreError, ClientError) as error:
            reason = explain(error) or type(error).__name__
            raise BrokerError(
                f"cannot {what} in s3://{self._root}: {reason}; check keys and endpoint"
            ) from error
