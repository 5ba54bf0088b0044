"""Trust: who signed, whether the policy accepts it, and every way in which it does not."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from m2kt.errors import PacketError, SpecError, StorageError, TrustError
from m2kt.packet import (
    RECEIPT,
    VERDICT,
    Packet,
    TrustPolicy,
    TrustVerdict,
    cosign,
    judge_file,
    judge_packet,
    judge_statement,
    key_path,
    list_keys,
    new_key,
    read_signer,
    show_key,
    sign_statement,
    verify_statement,
)
from m2kt.packet._json import canonical_json
from m2kt.packet._keys import is_weak, key_id, public_pem
from tests.packet.samples import sample_packet
from tests.packet.trusting import key, policy_file, trusted

AT = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("M2KT_PASSPHRASE", raising=False)


@pytest.fixture
def packet(tmp_path: Path) -> Path:
    """Written and signed by the teacher's owner, tom."""
    key("tom")
    return sample_packet().save(tmp_path / "packet.m2kp", key=key_path("tom"))


def judged(packet: Path, *keys: dict[str, Any], at: datetime = AT, **more: Any) -> TrustVerdict:
    policy = TrustPolicy.from_file(policy_file(packet.parent / "trust.yaml", *keys, **more))
    return judge_file(packet, policy, at=at)


class TestPolicy:
    def test_a_known_teacher_is_trusted(self, packet: Path) -> None:
        verdict = judged(packet, trusted("tom", "teacher"))
        assert verdict.trusted and not verdict.reasons
        assert [(s.owner, s.state) for s in verdict.signatures] == [("tom", "valid")]
        verdict.require("packet")

    def test_without_a_policy_nothing_is_trusted(self, packet: Path) -> None:
        verdict = judge_file(packet, None)
        assert verdict.integrity and not verdict.trusted and "no policy" in verdict.reasons[0]
        with pytest.raises(TrustError, match="no policy"):
            verdict.require("packet")

    def test_an_unknown_key(self, packet: Path) -> None:
        verdict = judged(packet, trusted("ann", "teacher"))
        assert not verdict.trusted and verdict.signatures[0].state == "unknown"
        assert "role teacher needs 1" in verdict.reasons[0] and "unknown" in verdict.reasons[0]

    def test_a_wrong_role(self, packet: Path) -> None:
        verdict = judged(packet, trusted("tom", "broker"), trusted("ann", "teacher"))
        assert not verdict.trusted and verdict.signatures[0].state == "valid"
        assert "of tom is broker" in verdict.reasons[0]

    @pytest.mark.parametrize(
        ("at", "state"),
        [
            (datetime(2026, 5, 31, 23, 59, tzinfo=UTC), "not yet valid"),
            (datetime(2026, 6, 1, tzinfo=UTC), "valid"),
            (datetime(2029, 12, 31, 23, 59, tzinfo=UTC), "valid"),
            (datetime(2030, 1, 1, tzinfo=UTC), "expired"),
        ],
    )
    def test_time(self, packet: Path, at: datetime, state: str) -> None:
        verdict = judged(packet, trusted("tom", "teacher", not_before="2026-06-01"), at=at)
        assert verdict.signatures[0].state == state and verdict.trusted == (state == "valid")

    def test_a_revoked_key(self, packet: Path) -> None:
        gone = {"keyid": key("tom").keyid, "time": "2028-01-01", "reason": "laptop stolen"}
        verdict = judged(packet, trusted("tom", "teacher"), revoked={"keys": [gone]})
        assert not verdict.trusted and verdict.signatures[0].state == "revoked"

    def test_a_revoked_packet(self, packet: Path) -> None:
        gone = {"digest": Packet.load(packet).digest, "time": "2026-12-01", "reason": "poisoned"}
        verdict = judged(packet, trusted("tom", "teacher"), revoked={"packets": [gone]})
        assert not verdict.trusted and "poisoned" in verdict.reasons[0]

    def test_two_roles_are_needed(self, packet: Path) -> None:
        keys = (trusted("tom", "teacher"), trusted("ada", "auditor"))
        thresholds = {"teacher": 1, "auditor": 1}
        assert "role auditor needs 1" in judged(packet, *keys, thresholds=thresholds).reasons[0]
        cosign(packet, "ada")
        assert judged(packet, *keys, thresholds=thresholds).trusted

    def test_two_keys_of_one_owner_count_once(self, packet: Path) -> None:
        keys = (
            trusted("tom", "auditor"),
            trusted("tom2", "auditor", owner=" Tom "),
            trusted("ada", "auditor"),
        )
        cosign(packet, "tom2")
        verdict = judged(packet, *keys, thresholds={"auditor": 2})
        assert [s.state for s in verdict.signatures] == ["valid", "valid"] and not verdict.trusted
        assert "needs 2 owner(s), got 1" in verdict.reasons[0]
        cosign(packet, "ada")
        assert judged(packet, *keys, thresholds={"auditor": 2}).trusted

    def test_teachers_and_licences(self, packet: Path) -> None:
        tom, card = trusted("tom", "teacher"), Packet.load(packet).manifest.teacher
        assert judged(packet, tom, teachers=[card.digest], licences=["Apache-2.0"]).trusted
        assert "teacher" in judged(packet, tom, teachers=["sha256:" + "f" * 64]).reasons[0]
        assert "licence" in judged(packet, tom, licences=["MIT"]).reasons[0]

    def test_a_variant_in_memory_is_not_the_signed_packet(self, packet: Path, tmp_path: Path) -> None:
        policy = TrustPolicy.from_file(policy_file(tmp_path / "t.yaml", trusted("tom", "teacher")))
        loaded = Packet.load(packet)
        assert judge_packet(loaded, policy, at=AT).trusted
        for other in (loaded.replace(traces={}), Packet.load(packet, verify=False), sample_packet()):
            with pytest.raises(PacketError, match="no verified signature"):
                judge_packet(other, policy, at=AT)
        loaded.concepts.vectors_KD[0, 0] += 1
        with pytest.raises(PacketError, match="changed since"):
            judge_packet(loaded, policy, at=AT)


class TestPolicyFile:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"thresholds": {"teacher": 2}}, "but the policy lists 1"),
            ({"thresholds": {"teacher": 0}}, "greater than or equal to 1"),
            ({"thresholds": {}}, "at least 1"),
            ({"thresholds": {"king": 1}}, "king"),
            ({"any": True}, "any: there is no such field"),
            ({"teachers": ["sha256:12"]}, "teachers"),
        ],
    )
    def test_what_is_refused(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        path = policy_file(tmp_path / "t.yaml", trusted("tom", "teacher"), **change)
        with pytest.raises(SpecError, match=message):
            TrustPolicy.from_file(path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"keyid": "0" * 64}, "has id"),
            ({"public_key": "no key"}, "public key in PEM"),
            ({"expires": None}, "expires"),
            ({"not_before": "2031-01-01"}, "before its not_before"),
            ({"roles": []}, "roles"),
        ],
    )
    def test_keys_that_are_refused(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        path = policy_file(tmp_path / "t.yaml", {**trusted("tom", "teacher"), **change})
        with pytest.raises(SpecError, match=message):
            TrustPolicy.from_file(path)

    def test_doubled_and_missing_fields(self, tmp_path: Path) -> None:
        tom = trusted("tom", "teacher")
        path = policy_file(tmp_path / "t.yaml", tom, trusted("tom", "teacher"))
        with pytest.raises(SpecError, match="listed twice"):
            TrustPolicy.from_file(path)
        path = policy_file(path, tom)
        path.write_text(path.read_text() + "thresholds: {teacher: 1}\n")
        with pytest.raises(SpecError, match="a key that is doubled"):
            TrustPolicy.from_file(path)
        with pytest.raises(SpecError, match="cannot use the trust policy"):
            TrustPolicy.from_file(tmp_path / "none.yaml")


class TestSeveralSigners:
    def test_digest_and_other_parts_are_unchanged(self, tmp_path: Path) -> None:
        key("tom"), key("ada")
        path = sample_packet().save(tmp_path / "packet", key=key_path("tom"))
        before = {p.name: p.read_bytes() for p in path.iterdir()}
        digest = Packet.load(path).digest
        signature = cosign(path, "ada")
        after = {p.name: p.read_bytes() for p in path.iterdir()}
        assert {name for name in before if before[name] != after[name]} == {"signature.json"}
        loaded = Packet.load(path)
        assert loaded.digest == digest and loaded.signature == signature
        assert signature.keyid == key("tom").keyid
        assert set(signature.keyids) == {key("tom").keyid, key("ada").keyid}
        assert Packet.load(loaded.save(tmp_path / "copy.m2kp")).signature == signature

    def test_the_order_of_signing_does_not_matter(self, packet: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.m2kp"
        shutil.copy(packet, other)
        key("ada"), key("bob")
        for path, names in ((packet, ("ada", "bob")), (other, ("bob", "ada"))):
            for name in names:
                cosign(path, name)
        assert packet.read_bytes() == other.read_bytes()

    def test_the_same_signer_twice(self, packet: Path) -> None:
        before = packet.read_bytes()
        with pytest.raises(PacketError, match="already"):
            cosign(packet, "tom")
        assert packet.read_bytes() == before

    @pytest.mark.parametrize(
        "edit", ["double", "false", "nameless", "foreign key", "upper case", "unsorted", "no writer"]
    )
    def test_edited_envelopes(self, tmp_path: Path, edit: str) -> None:
        key("tom"), key("ada")
        path = sample_packet().save(tmp_path / "packet", key=key_path("tom"))
        cosign(path, "ada")
        envelope = json.loads((path / "signature.json").read_text())
        signatures = envelope["signatures"]
        (added,) = (s for s in signatures if s["keyid"] == key("ada").keyid)
        (first,) = (s for s in signatures if s["keyid"] == key("tom").keyid)
        if edit == "double":
            signatures.append(dict(added))
        elif edit == "false":
            added["sig"] = first["sig"]
        elif edit == "nameless":
            del added["public"]
        elif edit == "foreign key":
            added["public"] = read_signer(key_path("tom")).public_key.keyval["public"]
        elif edit == "upper case":
            added["public"] = added["public"].upper()
        elif edit == "unsorted":
            signatures.reverse()
        else:
            signatures.remove(first)
        (path / "signature.json").write_bytes(canonical_json(envelope))
        with pytest.raises(PacketError, match=r"signature|canonical|Multiple"):
            Packet.load(path)

    def test_an_envelope_of_another_packet(self, tmp_path: Path) -> None:
        key("tom"), key("ada")
        one = sample_packet().save(tmp_path / "one", key=key_path("tom"))
        two = sample_packet(seed=1).save(tmp_path / "two", key=key_path("tom"))
        cosign(one, "ada")
        shutil.copy(one / "signature.json", two / "signature.json")
        with pytest.raises(PacketError, match="edited after signing"):
            judge_file(two, None)

    def test_an_edited_file_cannot_be_signed_either(self, tmp_path: Path) -> None:
        path = sample_packet().save(tmp_path / "packet")
        (path / "README.md").write_text("better than it is")
        key("ada")
        with pytest.raises(PacketError, match="was edited"):
            cosign(path, "ada")

    def test_a_statement_instead_of_a_packets_signature(self, tmp_path: Path) -> None:
        path = sample_packet().save(tmp_path / "packet")
        verdict = sign_statement(VERDICT, Packet.load(path).digest, {"verdict": "accepted"})
        (path / "signature.json").write_bytes(verdict)
        with pytest.raises(PacketError, match="expected a signed"):
            Packet.load(path)


class TestStatements:
    def statement(self, packet: Path, name: str = "ada") -> bytes:
        key(name)
        return sign_statement(RECEIPT, Packet.load(packet).digest, {"verdict": "accepted"}, key=key_path(name))

    def test_a_statement_of_an_auditor(self, packet: Path, tmp_path: Path) -> None:
        digest = Packet.load(packet).digest
        statement = verify_statement(self.statement(packet), expected=RECEIPT, packet=digest)
        assert statement.predicate == {"verdict": "accepted"} and statement.packet == digest
        file = tmp_path / "receipt.json"
        file.write_bytes(self.statement(packet))
        keys = (trusted("tom", "teacher"), trusted("ada", "auditor"))
        policy = TrustPolicy.from_file(policy_file(tmp_path / "t.yaml", *keys))
        assert judge_file(file, policy, at=AT).trusted
        by_tom = verify_statement(self.statement(packet, "tom"))
        assert "role auditor needs 1" in judge_statement(by_tom, policy, at=AT).reasons[0]
        assert not judge_file(file, None).trusted

    def test_about_a_revoked_packet(self, packet: Path, tmp_path: Path) -> None:
        gone = {"digest": Packet.load(packet).digest, "time": "2026-12-01", "reason": "poisoned"}
        path = policy_file(tmp_path / "t.yaml", trusted("ada", "auditor", "teacher"), revoked={"packets": [gone]})
        statement = verify_statement(self.statement(packet))
        assert "poisoned" in judge_statement(statement, TrustPolicy.from_file(path), at=AT).reasons[0]

    def test_what_is_refused(self, packet: Path, tmp_path: Path) -> None:
        content = self.statement(packet)
        with pytest.raises(PacketError, match="is about the packet"):
            verify_statement(content, packet="sha256:" + "0" * 64)
        with pytest.raises(PacketError, match="expected a signed"):
            verify_statement(content, expected=VERDICT)
        for position in range(0, len(content), 7):
            edited = bytearray(content)
            edited[position] ^= 1
            with pytest.raises(PacketError):
                verify_statement(bytes(edited))
        directory = sample_packet().save(tmp_path / "packet")
        with pytest.raises(PacketError, match="expected a statement of type"):
            verify_statement((directory / "signature.json").read_bytes())
        with pytest.raises(PacketError, match="expected a statement of type"):
            sign_statement("urn:m2kt:packet:v1", "sha256:" + "0" * 64, {})


class TestKeys:
    def test_new_show_list(self) -> None:
        made = new_key("ann")
        path = Path(made.path)
        assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
        assert made == show_key("ann") == show_key(path) and list_keys() == [made]
        assert b"PRIVATE" not in made.model_dump_json().encode()
        content = path.read_bytes()
        with pytest.raises(StorageError, match="not overwritten"):
            new_key("ann")
        assert path.read_bytes() == content
        for name in ("../ann", "", ".hidden", "a/b"):
            with pytest.raises(StorageError, match="expected a key name"):
                new_key(name)

    def test_a_locked_key(self, packet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = new_key("ada", "open sesame")
        assert made.locked and b"ENCRYPTED" in Path(made.path).read_bytes()
        with pytest.raises(StorageError, match="is locked"):
            cosign(packet, "ada")
        with pytest.raises(StorageError, match="passphrase is wrong"):
            cosign(packet, "ada", "open barley")
        monkeypatch.setenv("M2KT_PASSPHRASE", "open sesame")
        assert made.keyid in cosign(packet, "ada").keyids

    def test_no_such_key(self, packet: Path) -> None:
        with pytest.raises(StorageError, match="cannot read the signing key"):
            cosign(packet, "nobody")


Y_OF_SMALL_ORDER = [0, 1, 2**255 - 20, 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826]
Y_OF_SMALL_ORDER.append(2**255 - 19 - Y_OF_SMALL_ORDER[3])


def _order_divides_eight(y: int) -> bool:
    """Whether a point of the curve with this y coordinate, doubled three times, is the neutral one."""
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p
    x_squared = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
    x = pow(x_squared, (p + 3) // 8, p)
    x = x if (x * x - x_squared) % p == 0 else x * pow(2, (p - 1) // 4, p) % p
    assert (x * x - x_squared) % p == 0, "not on the curve"
    for _ in range(3):
        k = d * x * x * y * y % p
        x, y = 2 * x * y * pow(1 + k, -1, p) % p, (y * y + x * x) * pow(1 - k, -1, p) % p
    return (x, y) == (0, 1)


@pytest.mark.parametrize("y", Y_OF_SMALL_ORDER)
@pytest.mark.parametrize("sign", [0, 1])
def test_a_key_that_anybody_can_sign_for_is_refused(y: int, sign: int) -> None:
    assert _order_divides_eight(y)
    assert is_weak((y | sign << 255).to_bytes(32, "little"))


def test_keys_that_are_no_points_in_canonical_form_are_weak_and_ordinary_ones_are_not() -> None:
    assert all(is_weak((2**255 - 19 + k).to_bytes(32, "little")) for k in range(19))
    assert not any(is_weak(Ed25519PrivateKey.generate().public_key().public_bytes_raw()) for _ in range(100))


def test_a_policy_does_not_list_a_weak_key(tmp_path: Path) -> None:
    weak = Ed25519PublicKey.from_public_bytes(bytes([1]) + bytes(31))
    entry = {**trusted("tom", "teacher"), "keyid": key_id(weak), "public_key": public_pem(weak)}
    with pytest.raises(SpecError, match="anybody can sign"):
        TrustPolicy.from_file(policy_file(tmp_path / "t.yaml", entry))


def test_a_file_in_the_current_folder_is_not_taken_for_a_key_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends a folder chooses the names in it."""
    key("ada"), key("mallory")
    folder = tmp_path / "received"
    folder.mkdir()
    for name in ("ada", "ed25519"):
        (folder / name).write_bytes(key_path("mallory").read_bytes())
    monkeypatch.chdir(folder)
    assert key_path("ada") == key_path("mallory").with_name("ada.pem")
    assert key_path("./ada") == Path("ada") and key_path("ada.pem") == Path("ada.pem")
    assert show_key("ada").keyid != show_key("./ada").keyid == show_key("mallory").keyid
