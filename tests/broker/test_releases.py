"""Movable names: a source cannot go back, stand still, or change hands unseen."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from m2kt.errors import PacketError, SpecError, TrustError
from m2kt.packet import Packet, Release, sign_release
from m2kt.pipeline import sign
from m2kt.remote import PACKET_ARTEFACT, Repository, local_packet, open_packet
from m2kt_broker import BrokerSettings, digest_of
from tests.broker.conftest import broker_api, empty_cache
from tests.broker.packets import AUTHOR, SamplePacket, cosigned, sample
from tests.broker.test_oci_tokens import LOGIN, Manner, Registry
from tests.packet.trusting import key

Put = Callable[[SamplePacket], None]


def released(packet: SamplePacket, number: int, expires: datetime | None = None, signer: Path = AUTHOR) -> SamplePacket:
    """The packet, signed anew by its author as a release."""
    with tempfile.TemporaryDirectory() as folder:
        file = packet.at(Path(folder) / "p.m2kp")
        sign_release(file, Release(number=number, expires=expires), signer)
        return SamplePacket(Packet.load(file).digest, file.read_bytes())


@pytest.fixture
def tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Put]]:
    """A reference by tag, and a function that makes the registry's tag name another packet."""
    empty_cache(tmp_path, monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("M2KT_BROKER_URL", raising=False)
    registry = Registry(Manner(scheme="Basic"))
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": LOGIN}}}))
    repository = Repository(f"{registry.host}/a/b")

    def put(packet: SamplePacket) -> None:
        repository.push("v1", packet.content, digest_of(packet.content), PACKET_ARTEFACT)

    yield f"oci://{registry.host}/a/b:v1", put
    registry.server.shutdown()
    registry.server.server_close()


OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def test_an_older_packet_under_a_tag_is_refused(tag: tuple[str, Put]) -> None:
    reference, put = tag
    old, new = sample(0, created=OLD), sample(1, created=NEW)
    for packet in (old, new, new):
        put(packet)
        assert open_packet(reference).digest == packet.digest
    put(old)
    with pytest.raises(TrustError, match="extracted at 2026-01-01"):
        open_packet(reference)


def test_release_numbers_only_grow(tag: tuple[str, Put]) -> None:
    reference, put = tag
    # the number decides, and not the time
    first, second = released(sample(0, created=NEW), 1), released(sample(1, created=OLD), 2)
    for packet in (first, second):
        put(packet)
        assert open_packet(reference).digest == packet.digest
    for packet, why in (
        (first, "release 1, where release 2 was"),
        (sample(2, created=NEW), "without a number, where release 2"),
        (sample(1, created=OLD), "without a number, where release 2"),
        (released(sample(3), 2), "another packet of release 2"),
        (released(sample(4, signer="eve"), 9, signer=Path(key("eve").path)), "signed by"),
    ):
        put(packet)
        with pytest.raises(TrustError, match=why):
            local_packet(reference)
    put(released(sample(5), 3))
    assert open_packet(reference).digest == sample(5).digest


def test_a_name_grows_wherever_it_is_fetched(tag: tuple[str, Put], monkeypatch: pytest.MonkeyPatch) -> None:
    """The number belongs to the author and the packet's name: another tag does not begin anew."""
    reference, put = tag
    put(released(sample(1), 2))
    open_packet(reference)
    host = reference.removeprefix("oci://").rpartition(":")[0]
    repository = Repository(host)
    first = released(sample(0), 1)
    repository.push("other", first.content, digest_of(first.content), PACKET_ARTEFACT)
    with pytest.raises(TrustError, match="release 1, where release 2"):
        open_packet(f"oci://{host}:other")


def test_a_frozen_source_is_noticed(tag: tuple[str, Put]) -> None:
    reference, put = tag
    now = datetime.now(UTC)
    put(released(sample(0), 1, expires=now + timedelta(hours=1)))
    assert open_packet(reference).digest == sample(0).digest
    put(released(sample(0), 1, expires=now - timedelta(hours=1)))
    with pytest.raises(TrustError, match="was valid until"):
        open_packet(reference)
    put(released(sample(0), 1, expires=now + timedelta(hours=2)))  # signed again by its author
    assert open_packet(reference).digest == sample(0).digest


def test_a_release_is_signed_by_the_author_alone(tmp_path: Path) -> None:
    file = sample(0).at(tmp_path / "p.m2kp")
    with pytest.raises(PacketError, match="expected that key"):
        sign(file, key("eve").path, release=1)
    signed = sign(file, AUTHOR, release=5)
    assert signed.digest == sample(0).digest and Packet.load(file).signature.release == Release(number=5)  # type: ignore[union-attr]
    with pytest.raises(PacketError, match="expected no lower number"):
        sign(file, AUTHOR, release=4)
    for wrong in ({"expires": datetime(2030, 1, 1)}, {"release": 0}):
        with pytest.raises(SpecError, match="expected"):
            sign(file, AUTHOR, **wrong)  # type: ignore[arg-type]
    both = cosigned(SamplePacket(signed.digest, file.read_bytes()), "ada")
    assert len(both.content) > len(file.read_bytes())


def test_a_broker_serves_the_last_release(tmp_path: Path) -> None:
    with broker_api(BrokerSettings(data=tmp_path / "broker")) as api:
        second, first = released(sample(0), 2), released(sample(0), 1)
        for packet in (cosigned(second, "ada"), cosigned(cosigned(first, "ada"), "tom"), sample(0)):
            assert api.publish(packet).status_code == 201
        assert api("GET", f"/v1/packets/{second.digest}").content == cosigned(second, "ada").content
