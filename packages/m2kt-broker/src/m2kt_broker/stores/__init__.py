"""Where bytes live: a directory, a bucket, a registry; one file a store, one interface for all."""

from __future__ import annotations

from pathlib import Path

from m2kt.errors import SpecError

from ._base import CHUNK as CHUNK
from ._base import KINDS as KINDS
from ._base import Kind as Kind
from ._base import Store as Store
from ._base import read_all as read_all


def open_store(url: str) -> Store:
    """The store at ``url``: a plain path or ``file://``, ``s3://bucket/prefix``, ``oci://registry/repository``.

    Raises:
        SpecError: another scheme.
        StorageError: it cannot be used.
    """
    scheme, _, rest = url.rpartition("://")
    if scheme in ("", "file"):
        from .directory import DirectoryStore

        return DirectoryStore(Path(rest))
    if scheme == "s3":
        from .bucket import BucketStore

        return BucketStore(rest)
    if scheme == "oci":
        from .oci import RegistryStore

        return RegistryStore(rest)
    raise SpecError(f"expected a store such as DIR, s3://bucket/prefix or oci://registry/name, came {url!r}")
