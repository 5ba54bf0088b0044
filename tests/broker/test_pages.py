"""HTML pages: content, filters, errors, accessibility, and escaping of untrusted text."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode, urljoin

import numpy as np
import pytest

from m2kt.packet import Packet
from m2kt.probes import ProbeSpec
from m2kt_broker import BrokerSettings
from m2kt_broker.pages import _drawings, _list
from m2kt_broker.pages._text import short_digest
from tests.broker.conftest import broker_api
from tests.broker.drawing_faults import FAULTS
from tests.broker.html import Element, Page, read_page
from tests.broker.packets import ApiClient, SamplePacket, author, cosigned, notice, receipt, sample
from tests.packet.samples import sample_packet
from tests.packet.trusting import key, policy_file, trusted

BROWSER = {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
MARKUP = '<script>alert(1)</script><b style="position:fixed" onclick=x>"\'&amp;{{7*7}}'


def get_page(api: ApiClient, path: str, status: int = 200, role: str | None = "reader") -> Page:
    """Request a page as a browser does."""
    return read_page(api("GET", path, role, headers=BROWSER), status)


def packet_page(api: ApiClient, packet: SamplePacket) -> Page:
    return get_page(api, f"/packets/{packet.digest}")


def listed(page: Page) -> list[str]:
    """Digests of the listed packets."""
    links = [e.attributes["href"] for e in page.all("a")]
    return [link.removeprefix("/packets/") for link in links if link.startswith("/packets/")]


def by_ada() -> SamplePacket:
    return sample(50, signer="ada")


def table_rows(page: Page) -> list[Element]:
    return page.all("tr")


def other() -> SamplePacket:
    return sample(51, name="other-skill")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiClient]:
    """A broker with 23 packets: one signed by ada, one with another skill, one with two receipts."""
    folder = tmp_path_factory.mktemp("library")
    owners = [author(), trusted("ada", "teacher"), trusted("tom", "auditor")]
    policy = policy_file(folder / "trust.yaml", *owners)
    with broker_api(BrokerSettings(data=folder / "broker", trust=policy)) as api:
        for seed in range(20):
            api.publish(sample(seed))
        for packet in (by_ada(), other(), sample(52)):
            api.publish(packet, role="admin")
        add = f"/v1/packets/{sample(52).digest}/verdicts"
        api("POST", add, content=receipt(sample(52).digest, signer="tom"))
        api("POST", add, content=receipt(sample(52).digest, "rejected", signer="tom", reasons=["accuracy 0.1 < 0.8"]))
        api("POST", add, content=receipt(sample(52).digest))
        yield api


def test_empty_list_explains_publishing(api: ApiClient) -> None:
    page = get_page(api, "/")
    assert "No packet has been published" in page.text and "m2kt publish" in page.text
    assert "0 packets" in page.text and not page.all("table")


def test_list_shows_the_main_fields(library: ApiClient) -> None:
    page = get_page(library, "/")
    newest = page.all("tr")[1].text
    for text in ("tiny-secret", "A table over three letters.", "zoo:tiny", "Apache-2.0", "99.5 %"):
        assert text in newest
    assert "1 accepted" in newest and "1 rejected" in newest and "by a admin" in newest
    assert "23 packets" in page.text


def test_pagination_visits_every_packet(library: ApiClient) -> None:
    seen: list[str] = []
    page = get_page(library, "/")
    while True:
        seen += listed(page)
        following = page.all("a", rel="next")
        if not following:
            break
        page = get_page(library, following[0].attributes["href"])
    assert len(seen) == len(set(seen)) == 23
    assert [e.text for e in page.all("nav")] and page.all("a", href="/")[-1].text == "Newest"


FILTERS = [
    ({"skill": "other-skill"}, other),
    ({"teacher": "zoo:tiny", "skill": "other-skill"}, other),
    ({"licence": "MIT"}, None),
    ({"signer": "ada"}, by_ada),
    ({"fidelity": "1.0", "skill": "other-skill"}, None),
    ({"fidelity": "0.99", "skill": "other-skill"}, other),
    ({"verdict": "rejected"}, lambda: sample(52)),
    ({"q": "OTHER-s"}, other),
    ({"state": "yanked"}, None),
]


@pytest.mark.parametrize(("filters", "finds"), FILTERS, ids=[str(filters) for filters, _ in FILTERS])
def test_filters_select_packets_and_stay_set(
    library: ApiClient, filters: dict[str, str], finds: Callable[[], SamplePacket] | None
) -> None:
    form = {"skill": "", "teacher": "", "licence": "", "signer": "", "fidelity": "", "verdict": ""}
    if "signer" in filters:
        filters = {"signer": _signer(by_ada())}
    page = get_page(library, "/?" + urlencode(form | filters))
    assert set(listed(page)) == ({finds().digest} if finds else set())
    if finds is None:
        assert "No packet matches" in page.text
    for name, value in filters.items():
        if name == "q":
            assert page.all("input", id="search")[0].attributes["value"] == value
            assert page.all("input", type="hidden", name="q")[0].attributes["value"] == value
        else:
            chosen = [e.attributes["value"] for e in page.all("option") if "selected" in e.attributes]
            assert value in chosen, name
    removed = [e for e in page.all("a") if e.attributes.get("aria-label", "").startswith("Remove ")]
    assert len(removed) == len(filters)
    if len(filters) == 1:
        assert removed[0].attributes["href"] == "/"


def _signer(packet: SamplePacket) -> str:
    with tempfile.TemporaryDirectory() as folder:
        signature = Packet.load(packet.at(Path(folder) / "packet.m2kp")).signature
    assert signature is not None
    return signature.keyid


def test_search_shows_matches_and_accepts_digests(library: ApiClient) -> None:
    page = get_page(library, "/?q=other")
    assert "skill other-skill" in " ".join(page.all("p", class_="matches")[0].text.split())
    assert listed(get_page(library, f"/?q={sample(3).digest}")) == [sample(3).digest]
    assert len(listed(get_page(library, f"/?q=sha256:{'0' * 64}"))) == 23  # the teacher of all packets
    assert listed(get_page(library, f"/?q=sha256:{'a' * 64}")) == [sample(52).digest]  # an adapter of this packet


def test_filter_with_many_values_is_a_text_field(library: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_list, "MAX_OPTIONS", 1)
    page = get_page(library, "/")
    (field,) = page.all("input", name="skill")
    assert len(page.all("datalist", id=field.attributes["list"])) == 1 and page.all("select", name="teacher")


def test_invalid_filter_is_explained(library: ApiClient) -> None:
    page = get_page(library, "/?fidelity=much", 422)
    assert "Invalid request" in page.text and "fidelity" in page.text


def test_packet_page_shows_all_sections(library: ApiClient) -> None:
    page = packet_page(library, sample(52))
    assert page.all("h1")[0].text.split()[0] == "tiny-secret"
    for text in (
        "A table over three letters.",
        "LlamaForCausalLM",
        "600,000 parameters",
        "Apache-2.0",
        "3,700",
    ):
        assert text in page.text, text
    headings = [e.text for e in page.all("h2")]
    assert {"Concepts", "Program", "Traces", "Fidelity", "Data ledger"} <= set(headings)
    assert len(page.all("svg", class_="graph")) == 2 and len(page.all("svg", class_="states")) == 1
    cells = [e.text for e in page.all("td", class_="tint")]
    assert len(cells) == 9 and set(cells) <= {"~a", "~b", "~c"}
    command = page.all("pre", class_="command")[0].text
    assert f"m2kt pull {sample(52).digest} --out" in command and "M2KT_BROKER_URL=http://testserver" in command


def test_packet_page_shows_statements_and_lineage(library: ApiClient) -> None:
    page = packet_page(library, sample(52))
    (table,) = page.all("table", class_="statements")
    table_text = " ".join(table.text.split())
    assert (
        "accepted" in table_text
        and "rejected" in table_text
        and "zoo:pico-llama" in table_text
        and "98.0 %" in table_text
    )
    assert "uploaded by a publisher" in table_text
    ticks = [" ".join(row.text.split()) for row in table_rows(page) if "✓" in row.text or "✕" in row.text]
    assert len(ticks) == 2 and all("tom" in tick and "does not count" not in tick for tick in ticks)
    assert table_text.count("does not count: no auditor of this service") == 1
    (lineage,) = page.all("ol", class_="lineage")
    assert [w for w in ("Teacher", "Packet", "Adapter") if w in lineage.text] == [
        "Teacher",
        "Packet",
        "Adapter",
    ]
    assert f"sha256:{'a' * 12}…" in lineage.text and "22 other packets of this teacher" in lineage.text
    links = [e.attributes["href"] for e in page.all("a") if e.attributes["href"].startswith("/statements/")]
    rejected = next(p for link in links if "accuracy 0.1 < 0.8" in (p := get_page(library, link)).text)
    assert "Receipt" in rejected.all("h1")[0].text and "0.0 % before, 98.0 % after" in rejected.text
    assert '"verdict": "rejected"' in rejected.text


def test_packet_page_without_statements(library: ApiClient) -> None:
    page = packet_page(library, sample(0))
    assert "There are no statements" in page.text and "none reported" in page.text


def test_signers_have_the_owners_of_the_trust_policy(tmp_path: Path) -> None:
    policy = policy_file(tmp_path / "trust.yaml", trusted("ada", "teacher"), trusted("tom", "auditor"))
    with broker_api(BrokerSettings(data=tmp_path / "broker", trust=policy)) as api:
        packet = cosigned(sample(60, signer="ada"), "tom")
        assert api.publish(packet).status_code == 201
        page = packet_page(api, packet)
        signers = [" ".join(e.text.split()) for e in page.all("span", class_="signer")]
        assert f"ada {short_digest(key('ada').keyid)}" in signers and f"tom {short_digest(key('tom').keyid)}" in signers
        assert "ada" in page.text and "the author" in page.text


@pytest.mark.parametrize("state", ["yanked", "revoked"])
def test_yanked_and_revoked_packets_are_marked(api: ApiClient, state: str) -> None:
    api.publish(sample(0))
    api("POST", f"/v1/packets/{sample(0).digest}/verdicts", content=receipt(sample(0).digest))
    change = notice(sample(0).digest, state, "rows <i>were</i> poisoned")
    assert api("PUT", f"/v1/packets/{sample(0).digest}/state", **change).status_code == 200
    page = packet_page(api, sample(0))
    (banner,) = page.all("div", class_="banner")
    assert state in banner.attributes["class"] and "rows <i>were</i> poisoned" in banner.text
    assert page.all("h1")[0].text.split() == ["tiny-secret", state.capitalize()]
    assert "accepted" in page.text  # statements remain visible
    revoked = state == "revoked"
    assert bool(page.all("pre", class_="command")) is not revoked and bool(page.all("svg")) is not revoked
    assert listed(get_page(api, "/")) == [] and listed(get_page(api, f"/?state={state}")) == [sample(0).digest]
    assert state.capitalize() in get_page(api, "/?state=any").all("tr")[1].text


def test_packet_page_without_stored_bytes_shows_the_record(tmp_path: Path) -> None:
    with broker_api(BrokerSettings(data=tmp_path / "broker")) as api:
        api.publish(sample(0))
        for file in (tmp_path / "broker" / "store" / "packets").rglob("*"):
            if file.is_file():
                file.unlink()
        page = packet_page(api, sample(0))
        assert "figures cannot be drawn" in page.text and "3,700" in page.text and not page.all("svg")


def _packet_with_attention(weight: float) -> SamplePacket:
    attention = {
        "edges_M4": np.array([[0, 0, 0, 0]], np.int32),
        "weight_MLH": np.full((1, 3, 2), weight, np.float32),
        "effect_M": np.ones(1, np.float32),
        "causal_M": np.ones(1, np.int8),
    }
    with tempfile.TemporaryDirectory() as folder:
        file = sample_packet().replace(attention=attention).save(Path(folder) / "packet.m2kp")
        return SamplePacket(Packet.load(file).digest, file.read_bytes())


def test_implausible_numbers_are_drawn_within_bounds(api: ApiClient) -> None:
    packet = _packet_with_attention(1e8)
    api.publish(packet)
    page = packet_page(api, packet)
    assert "cannot be drawn" not in page.text and len(page.all("svg")) == 5


@pytest.mark.parametrize("fault", FAULTS)
def test_failed_drawing_leaves_the_record_and_other_pages(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with broker_api(BrokerSettings(data=tmp_path / "broker", draw_seconds=2)) as api:
        for seed in (0, 1):
            api.publish(sample(seed))
        monkeypatch.setattr(_drawings, "draw", FAULTS[fault])
        began = time.monotonic()
        page = packet_page(api, sample(0))
        assert time.monotonic() - began < 8
        assert "cannot be drawn" in page.text and "3,700" in page.text and page.all("section", id="card")
        monkeypatch.undo()
        assert packet_page(api, sample(1)).all("svg", class_="graph")
        again = packet_page(api, sample(0))  # what took all time is not tried again, what failed otherwise is
        assert bool(again.all("svg", class_="graph")) is (fault == "crash")


def test_errors_are_pages_for_browsers_and_problems_for_clients(api: ApiClient) -> None:
    for path in (
        "/nowhere",
        f"/packets/sha256:{'9' * 64}",
        f"/statements/sha256:{'9' * 64}",
        "/assets/old.css",
    ):
        page = get_page(api, path, 404)
        assert "Page not found" in page.text and page.all("a", href="/")
        plain = api("GET", path, "reader")
        assert (plain.status_code, plain.headers["content-type"]) == (404, "application/problem+json")
    machine = api("GET", f"/v1/packets/sha256:{'9' * 64}", headers=BROWSER)
    assert machine.headers["content-type"] == "application/problem+json"


def test_page_without_a_key_asks_for_a_password(api: ApiClient) -> None:
    answer = api("GET", "/", None, headers=BROWSER)
    page = read_page(answer, 401)
    # browsers show a password dialog only if Basic is the first challenge; the API also names Bearer
    assert answer.headers["www-authenticate"] == 'Basic realm="M2KT broker", charset="UTF-8"'
    assert "your API key as the password" in page.text


def test_json_clients_are_redirected_to_the_api(library: ApiClient) -> None:
    digest = sample(52).digest
    led = {"/": "/v1/packets", f"/packets/{digest}": f"/v1/packets/{digest}/record"}
    for path, api in led.items():
        answer = library("GET", path, "reader", headers={"accept": "application/json"}, follow_redirects=False)
        assert (answer.status_code, urljoin(path, answer.headers["location"])) == (303, api)
        assert library("GET", api, "reader").headers["content-type"] == "application/json"


def _hostile_packet() -> SamplePacket:
    """A packet whose texts are all markup."""
    symbols = [MARKUP, "</text></svg><script>x", "evil"]
    spec = sample_packet().spec.model_dump(mode="json")
    spec["slots"]["x"]["values"] = symbols
    spec["description"] = MARKUP
    plain = sample_packet()
    rule = plain.program.rules[0].model_copy(update={"name": MARKUP[:60]})
    program = plain.program.model_copy(update={"symbols": symbols, "rules": [rule]})
    teacher = plain.manifest.teacher.model_copy(update={"name": MARKUP, "architecture": MARKUP, "licence": MARKUP})
    packet = sample_packet(teacher=teacher, notes=[MARKUP], libraries={MARKUP: MARKUP}).replace(
        spec=ProbeSpec.model_validate(spec), program=program
    )
    with tempfile.TemporaryDirectory() as folder:
        file = packet.save(Path(folder) / "hostile.m2kp")
        return SamplePacket(Packet.load(file).digest, file.read_bytes())


def test_texts_of_a_packet_are_escaped(api: ApiClient) -> None:
    hostile = _hostile_packet()
    assert api.publish(hostile).status_code == 201
    statement = receipt(hostile.digest, adapter=MARKUP, base_model={"name": MARKUP, "digest": MARKUP}, reasons=[MARKUP])
    name = api("POST", f"/v1/packets/{hostile.digest}/verdicts", content=statement).json()["statement"]
    api("PUT", f"/v1/packets/{hostile.digest}/state", **notice(hostile.digest, "yanked", MARKUP))
    pages = [
        "/?state=any",
        f"/packets/{hostile.digest}",
        f"/statements/{name}",
        f"/?{urlencode({'q': MARKUP})}",
    ]
    for path in [*pages, f"/?{urlencode({'teacher': MARKUP, 'state': 'any', 'verdict': MARKUP})}"]:
        answer = api("GET", path, "reader", headers=BROWSER)
        page = read_page(answer)  # fails on any script, handler or style attribute
        assert "<script>alert(1)</script>" in page.text
        assert "<script" not in answer.text and "\u202e" not in answer.text and "\u2066" not in answer.text
        assert "position:fixed" not in page.all("style")[0].text
    drawn_page = get_page(api, f"/packets/{hostile.digest}")
    assert MARKUP in drawn_page.text
    assert len(drawn_page.all("svg", class_="graph")) == 2


def test_style_sheet_is_cacheable_and_named_by_its_digest(library: ApiClient) -> None:
    page = get_page(library, "/")
    (sheet,) = page.all("link", rel="stylesheet")
    answer = library("GET", sheet.attributes["href"], None)
    assert answer.headers["content-type"].startswith("text/css") and "immutable" in answer.headers["cache-control"]
    assert not re.search(r"@import|url\(|@font-face|https?:", answer.text)
    for icon in page.all("link", rel="icon"):
        assert library("GET", icon.attributes["href"], None).headers["content-type"] == "image/svg+xml"


def test_pages_answer_head_requests(library: ApiClient) -> None:
    whole = library("GET", "/", "reader", headers=BROWSER)
    head = library("HEAD", "/", "reader", headers=BROWSER)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert library("HEAD", "/packets/sha256:" + "0" * 64, "reader", headers=BROWSER).status_code == 404
