"""Ownership, slots and quotas: what a publisher can do to another's packet, and whose verdicts count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import m2kt
from m2kt.errors import TrustError
from m2kt.packet import NOTICE, Packet, sign_statement
from m2kt.remote import refuse_revoked
from m2kt.remote._cache import refuse_remembered, remember_revoked
from m2kt_broker import BrokerSettings
from m2kt_broker._rights import MAX_ADDED_SIGNATURES, MAX_UNCOUNTED_STATEMENTS
from tests.broker.conftest import broker_api
from tests.broker.packets import ApiClient, SamplePacket, author, cosigned, notice, receipt, recut, sample
from tests.merging.teaching import taught
from tests.packet.trusting import key, policy_file, trusted


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiClient]:
    """A broker with publishers ann and bob; tom is an auditor of its policy, which asks for no role of a packet."""
    names = [author(), *(trusted(name, "teacher") for name in ("ann", "bob"))]
    gone = trusted("old", "auditor", not_before="2020-01-01") | {"expires": "2021-01-01"}
    policy = policy_file(tmp_path / "trust.yaml", *names, trusted("tom", "auditor"), trusted("tim", "teacher"), gone)
    with broker_api(BrokerSettings(data=tmp_path / "broker", trust=policy, quota_statements=5)) as api:
        broker = api.client.app.state.broker  # type: ignore[attr-defined]
        for name in ("ann", "bob"):
            api.keys[name] = broker.create_key(name, "publisher", "tests")[1]
        yield api


def at(packet: SamplePacket, rest: str = "") -> str:
    return f"/v1/packets/{packet.digest}{rest}"


def state(api: ApiClient, packet: SamplePacket, role: str, name: str, signer: str | None) -> int:
    return api("PUT", at(packet, "/state"), role, **notice(packet.digest, name, signer=signer)).status_code


def shown(api: ApiClient, packet: SamplePacket) -> dict[str, Any]:
    record: dict[str, Any] = api("GET", at(packet, "/record"), "reader").json()
    return record


# who sends a notice, whose key signed it, and the status; ann is the author, bob uploaded it first
OWNERSHIP = [
    ("bob", "bob", 403),
    ("bob", "ann", 200),  # a notice speaks for itself, whoever brings it
    ("ann", "bob", 403),
    ("ann", "ann", 200),
    ("reader", "ann", 403),
    (None, "ann", 401),
    ("admin", "bob", 200),
    ("admin", "ann", 200),
]


@pytest.mark.parametrize(
    "change", ["revoked", *(pytest.param(x, marks=pytest.mark.slow) for x in ("yanked", "listed"))]
)
@pytest.mark.parametrize(("role", "signer", "status"), OWNERSHIP)
def test_the_author_owns_a_packet_whoever_uploaded_it(
    api: ApiClient, role: str | None, signer: str, status: int, change: str
) -> None:
    packet = sample(1, signer="ann")
    assert api.publish(packet, "bob").status_code == 201
    answer = api("PUT", at(packet, "/state"), role, **notice(packet.digest, change, signer=signer))
    assert answer.status_code == status, answer.text
    assert shown(api, packet)["state"] == (change if status == 200 else "listed")


def test_a_copy_signed_by_another_is_his_alone(api: ApiClient) -> None:
    """Bob signs ann's parts as his packet and uploads first; he can withdraw his word, and not hers."""
    packet = sample(2, signer="ann")
    copy = recut(packet, "bob")
    assert copy.digest == packet.digest and api.publish(copy, "bob").status_code == 201
    assert state(api, packet, "bob", "revoked", "bob") == 200
    assert shown(api, packet)["state"] == "revoked" and api("GET", at(packet)).status_code == 410
    assert api.publish(packet, "ann").status_code == 201
    record = shown(api, packet)
    assert record["state"] == "listed" and record["authors"] == [key("bob").keyid, key("ann").keyid]
    assert api("GET", at(packet)).content == packet.content
    assert api.publish(copy, "bob").status_code == 410  # he has withdrawn it for ever
    assert state(api, packet, "ann", "revoked", "ann") == 200
    assert api("GET", at(packet)).status_code == 410 == api.publish(packet, "ann").status_code


def test_each_author_has_a_form(api: ApiClient) -> None:
    packet = sample(3, signer="ann")
    copy = recut(packet, "bob")
    for upload, who in ((copy, "bob"), (packet, "ann")):
        assert api.publish(upload, who).status_code == 201
    for upload, who in ((copy, "bob"), (packet, "ann")):
        answer = api("GET", at(packet), params={"author": key(who).keyid})
        assert answer.content == upload.content
    assert api("GET", at(packet), params={"author": "0" * 64}).status_code == 404
    assert state(api, packet, "bob", "yanked", "bob") == 200 and shown(api, packet)["state"] == "listed"
    assert state(api, packet, "ann", "yanked", "ann") == 200 and shown(api, packet)["state"] == "yanked"


def test_a_publisher_cannot_fill_the_slots_of_signatures(api: ApiClient) -> None:
    packet = crowd = sample(4, signer="ann")
    assert api.publish(packet, "ann").status_code == 201
    for i in range(MAX_ADDED_SIGNATURES):
        crowd = cosigned(crowd, f"sock{i}")
    assert api.publish(crowd, "bob").status_code == 201
    assert api.publish(cosigned(crowd, "sock9"), "bob").status_code == 403
    assert api.publish(cosigned(packet, "sock9"), "bob").status_code == 403  # nor one at a time
    assert api.publish(cosigned(packet, "tom"), "bob").status_code == 201  # an auditor's signature takes no slot
    assert api.publish(cosigned(packet, "eve"), "ann").status_code == 201
    assert len(shown(api, packet)["signers"]) == MAX_ADDED_SIGNATURES + 3  # merged: nobody removes another's


def test_a_first_upload_has_no_more_slots(api: ApiClient) -> None:
    crowd = sample(5, signer="ann")
    for i in range(MAX_ADDED_SIGNATURES + 1):
        crowd = cosigned(crowd, f"sock{i}")
    assert (
        api.publish(crowd, "bob").status_code == 403 and api.publish(sample(5, signer="ann"), "ann").status_code == 201
    )


# signer of a verdict, and whether it counts
VOICES = [("tom", True), ("ann", False), ("tim", False), ("fresh", False), ("old", False)]


@pytest.mark.parametrize(("signer", "counts"), VOICES)
def test_verdicts_count_under_the_policy_alone(api: ApiClient, signer: str, counts: bool) -> None:
    packet = sample(6, signer="ann")
    api.publish(packet, "ann")
    added = api("POST", at(packet, "/verdicts"), "ann", content=receipt(packet.digest, signer=signer))
    assert added.status_code == 201
    record = shown(api, packet)
    assert record["verdicts"] == ({"accepted": 1} if counts else {}) and record["uncounted"] == (not counts)
    assert record["auditors"] == (["tom"] if counts else []) and record["statements"][0]["counts"] is counts
    found = api("GET", "/v1/packets", params={"verdict": "accepted"}).json()["packets"]
    assert [p["digest"] for p in found] == ([packet.digest] if counts else [])


def test_two_keys_of_one_auditor_count_once(tmp_path: Path) -> None:
    keys = [
        trusted("ed25519", "teacher"),
        *(trusted(n, "auditor", owner=o) for n, o in (("t1", "tom"), ("t2", "Tom"), ("z", "zoe"))),
    ]
    policy = policy_file(tmp_path / "t.yaml", *keys, thresholds={"teacher": 1, "auditor": 2})
    with broker_api(BrokerSettings(data=tmp_path / "broker")) as api:
        packet = sample(7)
        api.publish(packet)
        broker = api.client.app.state.broker  # type: ignore[attr-defined]
        from m2kt.packet import TrustPolicy
        from m2kt.packet._envelope import add_signature
        from m2kt.packet._keys import read_signer

        broker.policy = TrustPolicy.from_file(policy)
        one = receipt(packet.digest, signer="t1")
        for second, counted in (("t2", {}), ("z", {"accepted": 1})):
            both = add_signature(one, read_signer(Path(key(second).path)), "x")
            assert api("POST", at(packet, "/verdicts"), content=both).status_code == 201
            assert shown(api, packet)["verdicts"] == counted


def test_a_publisher_cannot_fill_the_slots_of_statements(api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    packet = sample(8, signer="ann")
    api.publish(packet, "ann")

    def say(role: str, signer: str, note: int) -> int:
        content = receipt(packet.digest, signer=signer, note=note)
        return api("POST", at(packet, "/verdicts"), role, content=content).status_code

    assert [say("bob", "bob", i) for i in range(6)] == [201] * 5 + [403]
    monkeypatch.setattr("m2kt_broker._rights.MAX_UNCOUNTED_STATEMENTS", 6)
    assert say("ann", "ann", 0) == 201 and say("ann", "ann", 1) == 409 and MAX_UNCOUNTED_STATEMENTS < 1000
    assert say("bob", "tom", 0) == 201  # an auditor's statement takes no slot, whoever brings it


def test_quota_of_a_key(tmp_path: Path) -> None:
    size = len(sample(0).content)
    with broker_api(BrokerSettings(data=tmp_path / "a", quota_bytes=2 * size + 9)) as api:
        assert [api.publish(sample(seed)).status_code for seed in range(3)] == [201, 201, 403]
        assert "quota" in api.publish(sample(2)).json()["title"].lower()
        assert api.publish(sample(0)).status_code == 200  # what is there costs nothing
        assert api.publish(sample(2), "admin").status_code == 201
        broker = api.client.app.state.broker  # type: ignore[attr-defined]
        assert len(list(broker.store.digests("packets"))) == 3  # what was refused was not stored
    with broker_api(BrokerSettings(data=tmp_path / "b", quota_records=2)) as api:
        packet = sample(0)
        assert api.publish(packet).status_code == 201
        posted = [
            api("POST", at(packet, "/verdicts"), content=receipt(packet.digest, note=i)).status_code for i in (0, 1)
        ]
        assert posted == [201, 403] and state(api, packet, "publisher", "yanked", None) == 403


def test_an_old_notice_cannot_be_used_again(api: ApiClient) -> None:
    packet = sample(9, signer="ann")
    api.publish(packet, "ann")
    hidden, back = notice(packet.digest, "yanked", signer="ann"), notice(packet.digest, "listed", signer="ann")
    for sent in (hidden, back):
        assert api("PUT", at(packet, "/state"), "ann", **sent).status_code == 200
    assert api("PUT", at(packet, "/state"), "bob", **hidden).status_code == 409
    assert shown(api, packet)["state"] == "listed"


@pytest.mark.parametrize(
    "predicate",
    [
        {},
        {"state": "gone", "reason": "x", "at": "2026-01-01T00:00:00Z"},
        {"state": "yanked", "reason": "", "at": "2026-01-01T00:00:00Z"},
        {"state": "yanked", "reason": "a\nb", "at": "2026-01-01T00:00:00Z"},
        {"state": "yanked", "reason": "x" * 1001, "at": "2026-01-01T00:00:00Z"},
        {"state": "yanked", "reason": "x", "at": "2026-01-01T00:00:00"},
        {"state": "yanked", "reason": "x", "at": "2026-01-01T00:00:00Z", "more": 1},
    ],
    ids=lambda predicate: json.dumps(predicate)[:40],
)
def test_other_notices_are_refused(api: ApiClient, predicate: dict[str, Any]) -> None:
    packet = sample(10, signer="ann")
    api.publish(packet, "ann")
    envelope = sign_statement(NOTICE, packet.digest, predicate, key=Path(key("ann").path))
    request = {"content": envelope, "headers": {"Content-Type": "application/json"}}
    assert api("PUT", at(packet, "/state"), "ann", **request).status_code == 422


def test_notices_and_statements_have_routes_of_their_own(api: ApiClient) -> None:
    packet = sample(11, signer="ann")
    api.publish(packet, "ann")
    revoked = notice(packet.digest, "revoked", signer="ann")
    assert api("POST", at(packet, "/verdicts"), "ann", **revoked).status_code == 422
    for other in (receipt(packet.digest, signer="ann"), notice(sample(12).digest, "revoked", signer="ann")["content"]):
        assert api("PUT", at(packet, "/state"), "ann", **(revoked | {"content": other})).status_code == 422


def test_a_client_never_forgets_an_authors_revocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("M2KT_BROKER_URL", raising=False)
    packet = Packet.load(sample(13, signer="ann").at(tmp_path / "p.m2kp"))
    by_author = notice(packet.digest, "revoked", "poisoned", signer="ann")["content"]
    by_other = notice(packet.digest, "revoked", "slander", signer="eve")["content"]
    remember_revoked(packet.digest, "https://evil.example", by_other)
    refuse_revoked(packet)  # whoever runs a broker may refuse a packet there, and nowhere else
    with pytest.raises(TrustError, match="slander"):
        refuse_remembered(packet, "https://evil.example")
    remember_revoked(packet.digest, "https://a.example", by_author)
    remember_revoked(packet.digest, "https://evil.example", by_other)
    for broker in (None, "https://b.example"):
        with pytest.raises(TrustError, match="by its author: poisoned"):
            refuse_remembered(packet, broker)


def test_a_notice_of_the_future_is_the_last_one(api: ApiClient) -> None:
    packet = sample(14, signer="ann")
    api.publish(packet, "ann")
    later = (datetime.now(UTC) + timedelta(days=9)).isoformat()
    predicate = {"state": "yanked", "reason": "x", "at": later}
    envelope = sign_statement(NOTICE, packet.digest, predicate, key=Path(key("ann").path))
    request = {"content": envelope, "headers": {"Content-Type": "application/json"}}
    assert api("PUT", at(packet, "/state"), "ann", **request).status_code == 422


def test_a_revoked_packet_marks_each_packet_that_holds_it(api: ApiClient, tmp_path: Path) -> None:
    taught_here = [taught(tmp_path, teacher=name, key=Path(key("ann").path)) for name in ("x", "y", "z")]
    whole = m2kt.merge(*taught_here, out=tmp_path / "m.m2kp", key=Path(key("ann").path)).packet
    rest = m2kt.merge(*taught_here[:2], out=tmp_path / "rest.m2kp", key=Path(key("ann").path)).packet
    samples = [SamplePacket(packet.digest, packet.file_bytes()) for packet in (*taught_here, whole, rest)]
    for packet in samples:
        assert api.publish(packet).status_code == 201
    assert not shown(api, samples[3])["revoked_sources"]
    assert state(api, samples[2], "ann", "revoked", "ann") == 200
    assert shown(api, samples[3])["revoked_sources"] == [samples[2].digest]
    assert not shown(api, samples[4])["revoked_sources"]
    assert samples[2].digest in api("GET", f"/packets/{samples[3].digest}", "reader").text
