"""The same tests for every store: a directory, an S3 bucket, an OCI registry."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from m2kt.errors import BrokerError, SpecError, StorageError
from m2kt.packet import Packet
from m2kt.remote import Repository, local_packet
from m2kt_broker import digest_of
from m2kt_broker.stores import Store, open_store, read_all
from tests.broker.packets import sample

STORES = ["directory", "s3", pytest.param("oci", marks=pytest.mark.registry)]


@pytest.fixture(params=STORES)
def open_new(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """A function that opens a new, empty store; each call returns another object."""
    name = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]
    match request.param:
        case "directory":
            url = str(tmp_path / "store")
        case "s3":
            request.getfixturevalue("s3")
            url = f"s3://packets/{name}"
        case _:
            url = f"oci://{request.getfixturevalue('registry')}/test-{name}"
    return lambda: open_store(url)


def test_stored_content_is_visible_to_other_processes(open_new: Callable[[], Store], tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    digest = digest_of(content)
    store = open_new()
    store.check()
    assert store.size("packets", digest) is None and list(store.digests("packets")) == []
    file = tmp_path / "file"
    file.write_bytes(content)
    store.put("packets", digest, file, {"title": "secret.m2kp", "packet": "sha256:1"})
    store.put("packets", digest, file)
    other = open_new()
    assert other.size("packets", digest) == len(content)
    assert read_all(other, "packets", digest) == content
    assert b"".join(other.read("packets", digest, 1_000_000, 1_500_007)) == content[1_000_000:1_500_007]
    assert b"".join(other.read("packets", digest, 2_999_999)) == content[-1:]
    assert list(other.digests("packets")) == [digest] and list(other.digests("records")) == []


def test_kinds_are_separate(open_new: Callable[[], Store]) -> None:
    store = open_new()
    names = [digest_of(text.encode()) for text in ("one", "two", "three")]
    for name, text in zip(names, ("one", "two", "three"), strict=True):
        store.put("records", name, text.encode())
    assert sorted(store.digests("records")) == sorted(names) and list(store.digests("packets")) == []
    assert read_all(store, "records", names[1]) == b"two"


def test_missing_digest_is_an_error(open_new: Callable[[], Store]) -> None:
    with pytest.raises((StorageError, BrokerError)):
        read_all(open_new(), "packets", digest_of(b"nothing"))


def test_unknown_scheme_is_an_error() -> None:
    with pytest.raises(SpecError, match=r"oci://registry/name, got 'ftp://x'"):
        open_store("ftp://x")


@pytest.mark.parametrize("url", ["s3://packets/x", "oci://127.0.0.1:9/x"])
def test_unreachable_store_is_an_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_MAX_ATTEMPTS", "1"),
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(BrokerError):
        open_store(url).check()


def test_incomplete_file_is_not_listed(tmp_path: Path) -> None:
    """A temporary file is not listed, and a start removes it after an hour."""
    store = open_store(str(tmp_path))
    temporary = tmp_path / "incoming" / "tmp123"
    temporary.write_bytes(b"incomplete")
    assert list(store.digests("packets")) == []
    open_store(str(tmp_path))
    assert temporary.is_file()  # another server may still write it
    os.utime(temporary, (0, 0))
    open_store(str(tmp_path))
    assert not temporary.exists()


@pytest.mark.registry
def test_registry_artefact_is_readable_without_a_broker(registry: str, tmp_path: Path) -> None:
    """The artefact has media type, title and digest; m2kt reads it without a broker."""
    packet = sample(11)
    store = open_store(f"oci://{registry}/shown")
    name = digest_of(packet.content)
    store.put("packets", name, packet.at(tmp_path / "p.m2kp"), {"title": "s.m2kp", "packet": packet.digest})
    repository = Repository(f"{registry}/shown/packets")
    layer = repository.layer(name.removeprefix("sha256:"))
    assert layer is not None and layer.digest == name and layer.media_type.startswith("application/vnd.m2kt.packet")
    path = local_packet(f"oci://{registry}/shown/packets:{name.removeprefix('sha256:')}")
    assert Packet.load(path).digest == packet.digest
