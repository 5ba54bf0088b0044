"""Publishing, fetching, listing and taking back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2kt.packet import Packet
from m2kt_broker import BrokerSettings
from tests.broker.conftest import speaking_to
from tests.broker.speaking import Speaker, cosigned, made, receipt
from tests.packet.trusting import policy_file, trusted


def test_a_packet_comes_back_byte_for_byte(speaker: Speaker) -> None:
    packet = made()
    first = speaker.publish(packet)
    assert first.status_code == 201, first.text
    assert speaker.publish(packet).status_code == 200
    came = speaker("GET", f"/v1/packets/{packet.digest}", "reader")
    assert came.content == packet.content
    assert came.headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=-7", 206, slice(-7, None)),
        ("bytes=5-99999999", 206, slice(5, None)),
        ("bytes=99999999-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=0-1,4-5", 200, slice(None)),
        ("bytes=9-3", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
    ],
)
def test_ranges(speaker: Speaker, asked: str, status: int, part: slice | None) -> None:
    packet = made()
    speaker.publish(packet)
    came = speaker("GET", f"/v1/packets/{packet.digest}", "reader", headers={"Range": asked})
    assert came.status_code == status
    if part is None:
        assert came.headers["content-range"] == f"bytes */{len(packet.content)}"
        return
    assert came.content == packet.content[part]
    if status == 206:
        start, _, rest = came.headers["content-range"].removeprefix("bytes ").partition("-")
        assert packet.content[int(start) : int(rest.split("/")[0]) + 1] == came.content


def test_conditions(speaker: Speaker) -> None:
    packet = made()
    etag = speaker.publish(packet).headers["etag"]
    path = f"/v1/packets/{packet.digest}"
    assert speaker("GET", path, headers={"If-None-Match": etag}).status_code == 304
    assert speaker("GET", path, headers={"If-None-Match": f'"x", W/{etag}'}).status_code == 304
    assert speaker("GET", path, headers={"If-None-Match": '"x"'}).status_code == 200
    assert speaker("GET", path, headers={"Range": "bytes=0-3", "If-Range": '"x"'}).content == packet.content
    assert (
        speaker("GET", path, headers={"Range": "bytes=0-3", "If-Range": etag}).content == packet.content[:4]
    )
    head = speaker("HEAD", path)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(packet.content)))


def test_a_digest_names_its_packet_alone(speaker: Speaker) -> None:
    answer = speaker("PUT", f"/v1/packets/{made(1).digest}", content=made(2).content)
    assert answer.status_code == 422 and made(2).digest in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert speaker("GET", f"/v1/packets/{made(1).digest}").status_code == 404


def test_signatures_are_added_and_never_lost(speaker: Speaker) -> None:
    packet = made()
    both = cosigned(packet, "ada")
    assert speaker.publish(packet).status_code == 201
    assert speaker.publish(both).status_code == 201
    assert speaker("GET", f"/v1/packets/{packet.digest}").content == both.content
    stripped = speaker.publish(packet)
    assert stripped.status_code == 409 and "lacks" in stripped.json()["detail"]
    record = speaker("GET", f"/v1/packets/{packet.digest}/record").json()
    assert [s["writer"] for s in record["signers"]].count(True) == 1 and len(record["signers"]) == 2


def test_the_policy_is_asked_on_arrival(tmp_path: Path) -> None:
    trust = policy_file(tmp_path / "trust.yaml", trusted("tom", "teacher"))
    with speaking_to(BrokerSettings(data=tmp_path / "broker", trust=trust)) as speaker:
        refused = speaker.publish(made(3, signer="eve"))
        assert refused.status_code == 403 and "role teacher needs" in refused.json()["detail"]
        taken = speaker.publish(made(3, signer="tom"))
        assert taken.status_code == 201
        assert taken.json()["signers"][0]["owner"] == "tom"


def test_filters_and_pages(speaker: Speaker) -> None:
    packets = [made(seed, name=f"skill-{seed % 2}") for seed in range(5)]
    for packet in packets:
        assert speaker.publish(packet).status_code == 201
    speaker("POST", f"/v1/packets/{packets[0].digest}/verdicts", content=receipt(packets[0].digest))

    def found(**query: str) -> list[str]:
        return [p["digest"] for p in speaker("GET", "/v1/packets", params=query).json()["packets"]]

    assert found() == [p.digest for p in reversed(packets)]
    assert found(skill="skill-1") == [packets[3].digest, packets[1].digest]
    assert found(verdict="accepted") == [packets[0].digest]
    assert (
        found(verdict="rejected") == found(licence="MIT") == found(fidelity="1.0") == found(teacher="x") == []
    )
    assert (
        len(found(licence="Apache-2.0")) == len(found(fidelity="0.99")) == len(found(teacher="zoo:tiny")) == 5
    )
    keyid = speaker("GET", "/v1/packets").json()["packets"][0]["signers"][0]["keyid"]
    assert len(found(signer=keyid[:12])) == 5 and found(signer="0" * 64) == []
    seen, cursor = [], None
    while True:
        page = speaker(
            "GET", "/v1/packets", params={"limit": "2", **({"cursor": cursor} if cursor else {})}
        ).json()
        seen += [p["digest"] for p in page["packets"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == found()
    assert speaker("GET", "/v1/packets", params={"cursor": "nonsense"}).status_code == 422
    assert speaker("GET", "/v1/packets", params={"colour": "red"}).status_code == 422


def test_yanked_is_hidden_and_handed_out_revoked_is_refused_for_ever(speaker: Speaker) -> None:
    packet = made()
    speaker.publish(packet)
    path = f"/v1/packets/{packet.digest}"

    def state(name: str, role: str = "publisher") -> int:
        return speaker(
            "PUT", f"{path}/state", role, json={"state": name, "reason": "poisoned rows"}
        ).status_code

    def listed() -> int:
        return len(speaker("GET", "/v1/packets").json()["packets"])

    assert state("yanked") == 200 and listed() == 0
    assert speaker("GET", path, "reader").headers["m2kt-state"] == "yanked"
    assert state("listed") == 200 and listed() == 1
    assert state("revoked") == 200 and listed() == 0
    gone = speaker("GET", path, "reader")
    assert gone.status_code == 410 and "poisoned rows" in gone.json()["detail"]
    assert speaker("GET", path, "admin").content == packet.content  # to look into what happened
    record = speaker("GET", f"{path}/record", "reader").json()
    assert (record["state"], record["state_reason"]) == ("revoked", "poisoned rows")
    assert state("listed", "admin") == 409
    assert speaker.publish(packet).status_code == 410
    assert speaker.publish(cosigned(packet, "ada")).status_code == 410


def test_only_its_publisher_and_admins_take_a_packet_back(speaker: Speaker) -> None:
    packet = made()
    speaker.publish(packet, "admin")
    yank = {"json": {"state": "yanked", "reason": "I do not like it"}}
    refused = speaker("PUT", f"/v1/packets/{packet.digest}/state", "publisher", **yank)
    assert refused.status_code == 403 and "a admin" in refused.json()["detail"]
    assert speaker("PUT", f"/v1/packets/{packet.digest}/state", "admin", **yank).status_code == 200


def test_statements_are_verified_kept_and_told(speaker: Speaker) -> None:
    packet, other = made(), made(1)
    speaker.publish(packet)
    path = f"/v1/packets/{packet.digest}/verdicts"
    envelope = receipt(packet.digest)
    added = speaker("POST", path, content=envelope)
    assert added.status_code == 201
    assert speaker("POST", path, content=envelope).status_code == 200
    said = speaker("GET", path, "reader").json()["statements"]
    assert [(s["verdict"], s["student"], s["accuracy"]) for s in said] == [
        ("accepted", "zoo:pico-llama", 0.98)
    ]
    name = added.json()["statement"]
    assert speaker("GET", f"/v1/statements/{name}", "reader").content == envelope
    assert speaker("GET", "/v1/packets").json()["packets"][0]["verdicts"] == {"accepted": 1}
    foreign = speaker("POST", path, content=receipt(other.digest))
    assert foreign.status_code == 422 and "is about the packet" in foreign.json()["detail"]
    forged = speaker("POST", path, content=envelope.replace(b"MDAwMDAw", b"MDAwMDAx", 1)[:-20] + b"\n")
    assert forged.status_code == 422
    assert (
        speaker("POST", f"/v1/packets/{other.digest}/verdicts", content=receipt(other.digest)).status_code
        == 404
    )


def test_a_strange_predicate_does_no_harm(speaker: Speaker) -> None:
    packet = made()
    speaker.publish(packet)
    strange = receipt(
        packet.digest, base_model=[1], after={"accuracy": "high", "adapter": {"a": 1}}, verdict=7
    )
    assert speaker("POST", f"/v1/packets/{packet.digest}/verdicts", content=strange).status_code == 201
    said = speaker("GET", f"/v1/packets/{packet.digest}/verdicts").json()["statements"][0]
    assert (said["verdict"], said["student"], said["accuracy"], said["adapter"]) == (None, None, None, None)


def test_words_and_vectors_find_packets(speaker: Speaker, tmp_path: Path) -> None:
    packets = [made(seed) for seed in range(3)]
    for packet in packets:
        speaker.publish(packet)
    found = speaker("GET", "/v1/search", "reader", params={"q": "RULE"}).json()["found"]
    assert len(found) == 3 and found[0]["labels"] == [{"kind": "rule", "text": "rule 1"}]
    assert speaker("GET", "/v1/search", params={"q": "100%_"}).json()["found"] == []
    space = found[0]["packet"]["space"]
    loaded = Packet.load(packets[1].at(tmp_path / "p.m2kp"))
    vector = (loaded.concepts.vectors_KD[4] * 3).tolist()  # length does not count, direction does
    near = speaker("POST", "/v1/search/vectors", "reader", json={"space": space, "vector": vector}).json()[
        "near"
    ]
    assert near[0]["packet"] == packets[1].digest and near[0]["row"] == 4
    assert near[0]["concept"] == "rule 1(b, b)" and np.isclose(near[0]["cosine"], 1.0)
    assert [n["cosine"] for n in near] == sorted((n["cosine"] for n in near), reverse=True)
    wrong = speaker("POST", "/v1/search/vectors", json={"space": space, "vector": [1.0]})
    assert wrong.status_code == 404 and "vectors of 1 numbers" in wrong.json()["detail"]
    speaker.publish(made(9, width=8))  # says it is of the same teacher, which cannot be
    assert (
        len(speaker("POST", "/v1/search/vectors", json={"space": space, "vector": vector}).json()["near"])
        == 10
    )
    nowhere = {"space": "sha256:9/1", "vector": vector}
    assert speaker("POST", "/v1/search/vectors", json=nowhere).status_code == 404
    speaker("PUT", f"/v1/packets/{packets[1].digest}/state", json={"state": "yanked", "reason": "old"})
    near = speaker("POST", "/v1/search/vectors", json={"space": space, "vector": vector}).json()["near"]
    assert packets[1].digest not in {n["packet"] for n in near}


def test_lineage_from_either_end(speaker: Speaker) -> None:
    packet, adapter = made(), "sha256:" + "a" * 64
    speaker.publish(packet)
    for said in (receipt(packet.digest), receipt(packet.digest, "rejected")):
        speaker("POST", f"/v1/packets/{packet.digest}/verdicts", content=said)
    for digest in (packet.digest, adapter, "sha256:" + "0" * 64):
        line = speaker("GET", f"/v1/lineage/{digest}", "reader").json()["lines"][0]
        assert line["packet"]["digest"] == packet.digest
        assert [(r["verdict"], r["adapter"]) for r in line["receipts"]] == [
            ("accepted", adapter),
            ("rejected", None),
        ]
    assert speaker("GET", f"/v1/lineage/sha256:{'b' * 64}").status_code == 404
