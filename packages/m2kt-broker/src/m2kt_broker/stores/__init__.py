"""Stores of bytes: a directory, an S3 bucket or an OCI registry behind one interface."""

from __future__ import annotations

from pathlib import Path

from m2kt.errors import SpecError

from ._base import CHUNK as CHUNK
from ._base import KINDS as KINDS
from ._base import Kind as Kind
from ._base import Store as Store
from ._base import file_digest as file_digest
from ._base import read_all as read_all


def open_store(url: str) -> Store:
    """Open the store at a path, ``file://``, ``s3://bucket/prefix`` or ``oci://registry/repository``.

    Raises:
        SpecError: the URL has another scheme.
        StorageError: the directory cannot be used.
    """
    scheme, _, location = url.rpartition("://")
    if scheme in ("", "file"):
        from ._directory import DirectoryStore

        return DirectoryStore(Path(location))
    if scheme == "s3":
        from ._bucket import BucketStore

        return BucketStore(location)
    if scheme == "oci":
        from ._oci import RegistryStore

        return RegistryStore(location)
    raise SpecError(f"expected a store such as DIR, s3://bucket/prefix or oci://registry/name, got {url!r}")
