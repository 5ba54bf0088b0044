"""Objects of an S3 bucket, by ``fsspec``. Keys and endpoint come from AWS' own settings (``AWS_ENDPOINT_URL``, ...)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from m2kt._plugins import missing
from m2kt.errors import BrokerError, explain

PIECE = 1 << 20


class Bucket:
    """Objects below ``BUCKET/PREFIX``. Every call may raise BrokerError."""

    def __init__(self, path: str) -> None:
        self._root = path.rstrip("/")
        try:
            import fsspec

            # other processes write too: no listing may be cached
            self._files: Any = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
        except ImportError as error:
            raise missing("s3://", "s3fs", "m2kt-broker") from error

    def put(self, name: str, source: Path | bytes) -> None:
        """Writes an object, completely or not at all."""
        with self._request(f"write {name}"):
            if isinstance(source, bytes):
                self._files.pipe_file(self._key(name), source)
            else:
                self._files.put_file(str(source), self._key(name))

    def size(self, name: str) -> int | None:
        """Size of an object in bytes; None where there is none."""
        with self._request(f"look for {name}"):
            try:
                return int(self._files.info(self._key(name))["size"])
            except FileNotFoundError:
                return None

    def version(self, name: str) -> str:
        """ETag of an object: it changes whenever the object does."""
        with self._request(f"look for {name}"):
            return str(self._files.info(self._key(name))["ETag"]).strip('"')

    def read(self, name: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes from ``start`` to before ``end``."""
        size = self.size(name)
        if size is None:
            raise BrokerError(f"expected an object at s3://{self._key(name)}, got none; check its name")
        end = size if end is None else min(end, size)
        for position in range(start, end, PIECE):
            with self._request(f"read {name}"):
                piece: bytes = self._files.cat_file(self._key(name), start=position, end=min(position + PIECE, end))
            yield piece

    def names(self, prefix: str) -> Iterator[str]:
        """Last parts of all names with a prefix."""
        with self._request(f"list {prefix}"):
            try:
                paths = self._files.find(self._key(prefix))
            except FileNotFoundError:
                return
        for path in paths:
            yield path.rpartition("/")[2]

    def check(self) -> None:
        """Raises BrokerError where the bucket does not answer."""
        with self._request("ask the bucket"):
            self._files.ls(self._root.partition("/")[0])

    def _key(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _request(self, action: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (OSError, BotoCoreError, ClientError) as error:
            reason = explain(error) or type(error).__name__
            raise BrokerError(f"cannot {action} in s3://{self._root}: {reason}; check keys and endpoint") from error
