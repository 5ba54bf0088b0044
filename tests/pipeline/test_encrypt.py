"""Encrypted packets: for their recipients they are packets, for others nothing."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

import m2kt
from m2kt.errors import PacketError, SpecError, StorageError
from m2kt.packet import Packet, identity_file, local_recipient
from tests.merging.teaching import taught

pytest.importorskip("pyrage")


@pytest.fixture
def packet(tmp_path: Path) -> Packet:
    return taught(tmp_path)


def as_user(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Be another user; returns the recipient."""
    monkeypatch.setenv("M2KT_AGE_IDENTITY", str(tmp_path / f"{name}.txt"))
    return local_recipient()


def test_for_its_recipients_it_is_the_packet(packet: Packet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bob, ann = (as_user(name, tmp_path, monkeypatch) for name in ("bob", "ann"))
    out = tmp_path / "p.age"
    result = m2kt.encrypt(packet, [ann, bob], out)
    assert result.packet == packet.digest and result.recipients == [ann, bob]
    for name in ("ann", "bob"):
        as_user(name, tmp_path, monkeypatch)
        loaded = Packet.load(out)
        assert loaded.file_bytes() == packet.file_bytes() and loaded.signature == packet.signature
        assert m2kt.inspect(out).description.digest == packet.digest
    m2kt.decrypt(out, tmp_path / "plain.m2kp")
    assert (tmp_path / "plain.m2kp").read_bytes() == packet.file_bytes()
    assert m2kt.preflight("zoo:pico-gpt2", out).report()["packet"] == packet.digest


def test_for_others_it_is_nothing(packet: Packet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = as_user("ann", tmp_path, monkeypatch)
    out = Path(m2kt.encrypt(packet, ann, tmp_path / "p.age").path)
    content = out.read_bytes()
    assert b"tiny-secret" not in content and b"vectors_KD" not in content
    as_user("eve", tmp_path, monkeypatch)
    with pytest.raises(PacketError, match="it is for others, or damaged"):
        Packet.load(out)
    monkeypatch.setenv("M2KT_AGE_IDENTITY", str(tmp_path / "none.txt"))
    with pytest.raises(StorageError, match="cannot read the age identities"):
        Packet.load(out)


@pytest.mark.parametrize("place", [10, 200, 0.5, -1])
def test_a_changed_bit_is_refused(
    packet: Packet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: float
) -> None:
    ann = as_user("ann", tmp_path, monkeypatch)
    out = Path(m2kt.encrypt(packet, ann, tmp_path / "p.age").path)
    content = bytearray(out.read_bytes())
    content[int(len(content) * place) if isinstance(place, float) else place] ^= 1
    out.write_bytes(content)
    with pytest.raises(PacketError):
        Packet.load(out)


def test_what_is_no_recipient_or_no_packet(packet: Packet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = as_user("ann", tmp_path, monkeypatch)
    for recipients in ([], ["ann"], [ann, ann[:-1] + ("q" if ann[-1] != "q" else "p")]):
        with pytest.raises(SpecError, match="expected age recipients"):
            m2kt.encrypt(packet, recipients, tmp_path / "p.age")
    with pytest.raises(SpecError, match=r"ends in \.age"):
        m2kt.encrypt(packet, ann, tmp_path / "p.m2kp")
    import pyrage

    (tmp_path / "q.age").write_bytes(pyrage.encrypt(b"no packet", [pyrage.x25519.Recipient.from_str(ann)]))
    with pytest.raises(PacketError, match="is no packet file"):
        Packet.load(tmp_path / "q.age")


def test_the_identity_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = as_user("ann", tmp_path, monkeypatch)
    assert stat.S_IMODE(identity_file().stat().st_mode) == 0o600
    assert local_recipient() == first and "AGE-SECRET-KEY-1" not in first
