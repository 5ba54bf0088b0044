"""Publish, download, list, search, yank and revoke packets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2kt.packet import Packet
from m2kt_broker import BrokerSettings
from tests.broker.conftest import broker_api
from tests.broker.packets import ApiClient, cosigned, notice, receipt, sample
from tests.packet.trusting import policy_file, trusted


def test_download_equals_the_upload(api: ApiClient) -> None:
    packet = sample()
    first = api.publish(packet)
    assert first.status_code == 201, first.text
    assert api.publish(packet).status_code == 200
    download = api("GET", f"/v1/packets/{packet.digest}", "reader")
    assert download.content == packet.content
    assert download.headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize(
    ("header", "status", "part"),
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
def test_ranges(api: ApiClient, header: str, status: int, part: slice | None) -> None:
    packet = sample()
    api.publish(packet)
    download = api("GET", f"/v1/packets/{packet.digest}", "reader", headers={"Range": header})
    assert download.status_code == status
    if part is None:
        assert download.headers["content-range"] == f"bytes */{len(packet.content)}"
        return
    assert download.content == packet.content[part]
    if status == 206:
        start, _, rest = download.headers["content-range"].removeprefix("bytes ").partition("-")
        assert packet.content[int(start) : int(rest.split("/")[0]) + 1] == download.content


def test_conditional_requests(api: ApiClient) -> None:
    packet = sample()
    etag = api.publish(packet).headers["etag"]
    path = f"/v1/packets/{packet.digest}"
    assert api("GET", path, headers={"If-None-Match": etag}).status_code == 304
    assert api("GET", path, headers={"If-None-Match": f'"x", W/{etag}'}).status_code == 304
    assert api("GET", path, headers={"If-None-Match": '"x"'}).status_code == 200
    assert api("GET", path, headers={"Range": "bytes=0-3", "If-Range": '"x"'}).content == packet.content
    assert api("GET", path, headers={"Range": "bytes=0-3", "If-Range": etag}).content == packet.content[:4]
    head = api("HEAD", path)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(packet.content)))


def test_packet_with_another_digest_is_rejected(api: ApiClient) -> None:
    answer = api("PUT", f"/v1/packets/{sample(1).digest}", content=sample(2).content)
    assert answer.status_code == 422 and sample(2).digest in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert api("GET", f"/v1/packets/{sample(1).digest}").status_code == 404


def test_signatures_can_be_added_but_not_removed(api: ApiClient) -> None:
    packet = sample()
    both = cosigned(packet, "ada")
    assert api.publish(packet).status_code == 201
    assert api.publish(both).status_code == 201
    assert api("GET", f"/v1/packets/{packet.digest}").content == both.content
    stripped = api.publish(packet)  # nothing is lost, so nothing is refused
    assert stripped.status_code == 200
    third = api.publish(cosigned(packet, "tom"))
    assert third.status_code == 201 and len(third.json()["signers"]) == 3
    record = api("GET", f"/v1/packets/{packet.digest}/record").json()
    assert [s["writer"] for s in record["signers"]].count(True) == 1 and len(record["signers"]) == 3


def test_trust_policy_applies_to_uploads(tmp_path: Path) -> None:
    trust = policy_file(tmp_path / "trust.yaml", trusted("tom", "teacher"))
    with broker_api(BrokerSettings(data=tmp_path / "broker", trust=trust)) as api:
        refused = api.publish(sample(3, signer="eve"))
        assert refused.status_code == 403 and "role teacher needs" in refused.json()["detail"]
        taken = api.publish(sample(3, signer="tom"))
        assert taken.status_code == 201
        assert taken.json()["signers"][0]["owner"] == "tom"


def test_filters_and_pagination(api: ApiClient) -> None:
    packets = [sample(seed, name=f"skill-{seed % 2}") for seed in range(5)]
    for packet in packets:
        assert api.publish(packet).status_code == 201
    api("POST", f"/v1/packets/{packets[0].digest}/verdicts", content=receipt(packets[0].digest))

    def digests(**query: str) -> list[str]:
        return [p["digest"] for p in api("GET", "/v1/packets", params=query).json()["packets"]]

    assert digests() == [p.digest for p in reversed(packets)]
    assert digests(skill="skill-1") == [packets[3].digest, packets[1].digest]
    assert digests(verdict="accepted") == []
    assert (
        digests(verdict="rejected") == digests(licence="MIT") == digests(fidelity="1.0") == digests(teacher="x") == []
    )
    assert len(digests(licence="Apache-2.0")) == len(digests(fidelity="0.99")) == len(digests(teacher="zoo:tiny")) == 5
    keyid = api("GET", "/v1/packets").json()["packets"][0]["signers"][0]["keyid"]
    assert len(digests(signer=keyid[:12])) == 5 and digests(signer="0" * 64) == []
    seen, cursor = [], None
    while True:
        page = api("GET", "/v1/packets", params={"limit": "2", **({"cursor": cursor} if cursor else {})}).json()
        seen += [p["digest"] for p in page["packets"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == digests()
    assert api("GET", "/v1/packets", params={"cursor": "nonsense"}).status_code == 422
    assert api("GET", "/v1/packets", params={"colour": "red"}).status_code == 422


def test_yanked_packet_is_hidden_and_revoked_packet_is_not_served(api: ApiClient) -> None:
    packet = sample()
    api.publish(packet)
    path = f"/v1/packets/{packet.digest}"

    def state(name: str, role: str = "publisher") -> int:
        return api("PUT", f"{path}/state", role, **notice(packet.digest, name, "poisoned rows")).status_code

    def listed() -> int:
        return len(api("GET", "/v1/packets").json()["packets"])

    assert state("yanked") == 200 and listed() == 0
    assert api("GET", path, "reader").headers["m2kt-state"] == "yanked"
    assert state("listed") == 200 and listed() == 1
    assert state("revoked") == 200 and listed() == 0
    gone = api("GET", path, "reader")
    assert gone.status_code == 410 and "poisoned rows" in gone.json()["detail"]
    assert api("GET", path, "admin").content == packet.content  # for an investigation
    record = api("GET", f"{path}/record", "reader").json()
    assert (record["state"], record["state_reason"]) == ("revoked", "poisoned rows")
    assert state("listed", "admin") == 409
    assert api.publish(packet).status_code == 410
    assert api.publish(cosigned(packet, "ada")).status_code == 410


def test_statements_are_verified_and_listed(api: ApiClient) -> None:
    packet, other = sample(), sample(1)
    api.publish(packet)
    path = f"/v1/packets/{packet.digest}/verdicts"
    envelope = receipt(packet.digest)
    added = api("POST", path, content=envelope)
    assert added.status_code == 201
    assert api("POST", path, content=envelope).status_code == 200
    statements = api("GET", path, "reader").json()["statements"]
    assert [(s["verdict"], s["student"], s["accuracy"]) for s in statements] == [("accepted", "zoo:pico-llama", 0.98)]
    name = added.json()["statement"]
    assert api("GET", f"/v1/statements/{name}", "reader").content == envelope
    assert api("GET", "/v1/packets").json()["packets"][0]["uncounted"] == 1
    foreign = api("POST", path, content=receipt(other.digest))
    assert foreign.status_code == 422 and "is about the packet" in foreign.json()["detail"]
    forged = api("POST", path, content=envelope.replace(b"MDAwMDAw", b"MDAwMDAx", 1)[:-20] + b"\n")
    assert forged.status_code == 422
    assert api("POST", f"/v1/packets/{other.digest}/verdicts", content=receipt(other.digest)).status_code == 404


def test_a_statement_predicate_does_no_harm(api: ApiClient) -> None:
    packet = sample()
    api.publish(packet)
    statement = receipt(packet.digest, base_model=[1], after={"accuracy": "high", "adapter": {"a": 1}}, verdict=7)
    assert api("POST", f"/v1/packets/{packet.digest}/verdicts", content=statement).status_code == 201
    view = api("GET", f"/v1/packets/{packet.digest}/verdicts").json()["statements"][0]
    assert (view["verdict"], view["student"], view["accuracy"], view["adapter"]) == (None, None, None, None)


def test_search_by_text_and_by_vector(api: ApiClient, tmp_path: Path) -> None:
    packets = [sample(seed) for seed in range(3)]
    for packet in packets:
        api.publish(packet)
    matches = api("GET", "/v1/search", "reader", params={"q": "RULE"}).json()["found"]
    assert len(matches) == 3 and matches[0]["labels"] == [{"kind": "rule", "text": "rule 1"}]
    assert api("GET", "/v1/search", params={"q": "100%_"}).json()["found"] == []
    space = matches[0]["packet"]["space"]
    loaded = Packet.load(packets[1].at(tmp_path / "p.m2kp"))
    vector = (loaded.concepts.vectors_KD[4] * 3).tolist()  # the search ignores the norm
    near = api("POST", "/v1/search/vectors", "reader", json={"space": space, "vector": vector}).json()["near"]
    assert near[0]["packet"] == packets[1].digest and near[0]["row"] == 4
    assert near[0]["concept"] == "rule 1(b, b)" and np.isclose(near[0]["cosine"], 1.0)
    assert [n["cosine"] for n in near] == sorted((n["cosine"] for n in near), reverse=True)
    wrong = api("POST", "/v1/search/vectors", json={"space": space, "vector": [1.0]})
    assert wrong.status_code == 404 and "vectors of 1 numbers" in wrong.json()["detail"]
    api.publish(sample(9, width=8))  # a false claim: the same teacher with another width
    assert len(api("POST", "/v1/search/vectors", json={"space": space, "vector": vector}).json()["near"]) == 10
    nowhere = {"space": "sha256:9/1", "vector": vector}
    assert api("POST", "/v1/search/vectors", json=nowhere).status_code == 404
    api("PUT", f"/v1/packets/{packets[1].digest}/state", **notice(packets[1].digest, "yanked"))
    near = api("POST", "/v1/search/vectors", json={"space": space, "vector": vector}).json()["near"]
    assert packets[1].digest not in {n["packet"] for n in near}


def test_lineage_of_teacher_packet_and_adapter(api: ApiClient) -> None:
    packet, adapter = sample(), "sha256:" + "a" * 64
    api.publish(packet)
    for statement in (receipt(packet.digest), receipt(packet.digest, "rejected")):
        api("POST", f"/v1/packets/{packet.digest}/verdicts", content=statement)
    for digest in (packet.digest, adapter, "sha256:" + "0" * 64):
        line = api("GET", f"/v1/lineage/{digest}", "reader").json()["lines"][0]
        assert line["packet"]["digest"] == packet.digest
        assert [(r["verdict"], r["adapter"]) for r in line["receipts"]] == [
            ("accepted", adapter),
            ("rejected", None),
        ]
    assert api("GET", f"/v1/lineage/sha256:{'b' * 64}").status_code == 404
