"""Hostile input: attacks, uploads above the limits, control characters."""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks.__main__ import MODULES
from attacks._forge import ATTACKS, Attack
from m2kt.packet import NOTICE, sign_statement
from m2kt.packet._parts import MANIFEST, PARTS, zip_bytes
from m2kt_broker import BrokerSettings
from tests.broker.conftest import broker_api
from tests.broker.packets import STATEMENT, ApiClient, receipt, sample

assert MODULES  # the import registers the attacks


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiClient]:
    settings = BrokerSettings(data=tmp_path_factory.mktemp("target") / "broker", max_upload=20 << 20)
    with broker_api(settings) as api:
        yield api


def as_upload(path: Path) -> tuple[str, bytes]:
    """Digest and body of an upload: the file, or the directory packed as a single file."""
    if path.is_file():
        content = path.read_bytes()
        manifest = _manifest_in(content)
    else:
        files = {p.name: p.read_bytes() for p in sorted(path.iterdir()) if p.is_file() and not p.is_symlink()}
        manifest = files.get(MANIFEST, b"")
        content = zip_bytes(files) if set(files) == set(PARTS) else _zip(files)
    return "sha256:" + hashlib.sha256(manifest).hexdigest(), content


def _manifest_in(content: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.read(MANIFEST)
    except Exception:  # an attack may break the archive in any way
        return b""


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


# Attacks by means of the file system: as an upload they are a valid packet, or a terabyte.
ON_DISK = {"hard-link", "sparse-text", "sparse-tensors"}


@pytest.mark.parametrize("attack", [a for a in ATTACKS.values() if a.name not in ON_DISK], ids=lambda a: a.name)
def test_attack_is_rejected_and_stores_nothing(attack: Attack, target: ApiClient, tmp_path: Path) -> None:
    path = attack.write(tmp_path / attack.name)
    digest, content = as_upload(path)
    answer = target("PUT", f"/v1/packets/{digest}", content=content)
    assert answer.status_code in (413, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    broker, detail = target.client.app.state.broker, answer.json()["detail"]  # type: ignore[attr-defined]
    assert detail.isprintable() and len(detail) < 700 and str(broker.settings.data) not in detail
    assert list(broker.store.digests("packets")) == [] and list(broker.settings.spool.iterdir()) == []


def test_upload_above_the_maximum_size_is_rejected(tmp_path: Path) -> None:
    with broker_api(BrokerSettings(data=tmp_path / "broker", max_upload=1000)) as api:
        packet = sample()
        path = f"/v1/packets/{packet.digest}"
        rejected = api("PUT", path, content=packet.content)
        assert rejected.status_code == 413 and "1000 bytes" in rejected.json()["detail"]
        chunks = (packet.content[i : i + 100] for i in range(0, len(packet.content), 100))
        chunked = api("PUT", path, content=chunks)  # without a Content-Length
        assert chunked.status_code == 413
        assert api("PUT", path, content=b"", headers={"Content-Length": "9" * 5000}).status_code in (
            413,
            422,
        )
        assert list((tmp_path / "broker" / "spool").iterdir()) == []


def test_large_statement_is_rejected(api: ApiClient) -> None:
    packet = sample()
    api.publish(packet)
    answer = api("POST", f"/v1/packets/{packet.digest}/verdicts", content=b" " * (5 << 20))
    assert answer.status_code == 413


def test_upload_above_the_maximum_duration_is_rejected(tmp_path: Path) -> None:
    settings = BrokerSettings(data=tmp_path / "broker", upload_seconds=1)
    with broker_api(settings) as api:
        packet = sample()
        messages: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        sent: list[dict[str, object]] = []

        async def call() -> None:
            await messages.put({"type": "http.request", "body": packet.content[:50], "more_body": True})

            async def send(message: dict[str, object]) -> None:
                sent.append(message)

            authorization = (b"authorization", f"Bearer {api.keys['publisher']}".encode())
            scope = {
                "type": "http",
                "method": "PUT",
                "path": f"/v1/packets/{packet.digest}",
                "raw_path": b"",
                "query_string": b"",
                "headers": [authorization],
                "http_version": "1.1",
                "scheme": "http",
                "server": ("test", 80),
                "client": ("test", 1),
            }
            await api.client.app(scope, messages.get, send)  # type: ignore[arg-type]

        api.client.portal.call(call)  # type: ignore[union-attr]
        assert sent[0]["status"] == 408


@pytest.mark.parametrize("place", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b", "a\u202eb"], ids=["nul", "surrogate", "direction"])
def test_control_characters_in_texts(place: str, text: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Rejected in requests; not indexed where a signed statement contains them."""
    database = None
    if place == "postgres":
        name = f"texts{ord(text[1])}"
        database = request.getfixturevalue("pg").new_database(name)
    with broker_api(BrokerSettings(data=tmp_path / "broker", database=database)) as api:
        packet = sample()
        api.publish(packet)
        encoded = "".join(f"%{byte:02x}" for byte in text.encode(errors="surrogatepass"))
        for query in ("skill", "teacher", "licence", "verdict", "label", "cursor"):
            assert api("GET", f"/v1/packets?{query}={encoded}").status_code in (200, 422)
        assert api("GET", f"/v1/search?q={encoded}").status_code in (200, 422)
        if "\ud800" not in text:
            predicate = {"state": "yanked", "reason": text, "at": "2026-01-01T00:00:00Z"}
            body = sign_statement(NOTICE, packet.digest, predicate)
            refused = api("PUT", f"/v1/packets/{packet.digest}/state", content=body, headers=STATEMENT)
            assert refused.status_code == 422 and refused.headers["content-type"] == "application/problem+json"
        if "\ud800" not in text:  # a surrogate cannot be signed
            statement = receipt(packet.digest, base_model={"name": text})
            path = f"/v1/packets/{packet.digest}/verdicts"
            assert api("POST", path, content=statement).status_code in (201, 422)
            assert [s["student"] for s in api("GET", path).json()["statements"]] in ([None], [])
