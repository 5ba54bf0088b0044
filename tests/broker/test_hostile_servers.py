"""Hostile and odd servers against the client: each ends in one printable line, bounded work and no traceback."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from m2kt.errors import BrokerError, M2KTError, PacketError, SpecError
from m2kt.remote import BrokerClient, local_packet, open_packet, search
from m2kt.remote import _http as http
from m2kt_broker import digest_of
from tests.broker.conftest import empty_cache
from tests.broker.packets import sample
from tests.broker.services import free_port, m2kt

ESCAPES = "\x1b]0;owned\x07\x1b[2Jtrusted\u202e\x9b1m"
PACKET = sample(5)
ETAG = f'"{digest_of(PACKET.content)}"'
REFERENCE = f"m2kt://{PACKET.digest}"
Answer = Callable[[BaseHTTPRequestHandler], None]


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(body)), **headers}.items():
        if value:
            handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[Answer], str]]:
    """A function that starts a server with this answer to every request, and returns its address."""
    monkeypatch.setattr(http, "FIRST_WAIT", 0.0)
    empty_cache(tmp_path, monkeypatch)
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer(self)

            do_POST = do_PUT = do_HEAD = do_GET

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{servers[-1].server_port}"
        monkeypatch.setenv("M2KT_BROKER_URL", url)
        return url

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def used(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


ODD = {
    "weak": lambda h: send(h, PACKET.content, ETag=f"W/{ETAG}"),
    "gzip-suffix": lambda h: send(h, PACKET.content, ETag=ETAG[:-1] + '-gzip"'),
    "gzipped": lambda h: send(h, gzip.compress(PACKET.content), ETag=f"W/{ETAG}", Content_Encoding="gzip"),
    "no-etag": lambda h: send(h, PACKET.content),
    "foreign-etag": lambda h: send(h, PACKET.content, ETag='"5f3-9"'),
    "no-length": lambda h: send(h, PACKET.content, ETag=ETAG, Content_Length=""),
    "odd-type": lambda h: send(h, PACKET.content, ETag=ETAG, Content_Type="application/octet-stream"),
}


@pytest.mark.parametrize("proxy", ODD)
def test_ordinary_proxies_are_no_obstacle(hostile: Callable[[Answer], str], proxy: str) -> None:
    hostile(ODD[proxy])
    assert open_packet(REFERENCE).digest == PACKET.digest
    assert open_packet(REFERENCE).digest == PACKET.digest  # with a cached copy


def test_cut_download_behind_a_proxy_starts_again(hostile: Callable[[Answer], str]) -> None:
    """Without an exact ETag the bytes at hand may be another version's."""
    asked: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers.get("Range"))
        cut = len(asked) == 1
        send(
            handler,
            PACKET.content[:700] if cut else PACKET.content,
            ETag=f"W/{ETAG}",
            Content_Length=str(len(PACKET.content)),
        )

    hostile(answer)
    assert open_packet(REFERENCE).digest == PACKET.digest and asked == [None, None]


PAGES = {
    "sign-in": lambda h: send(h, b"<html>sign in", Content_Type="text/html; charset=utf-8"),
    "json": lambda h: send(h, b'{"a": 1}', Content_Type="application/json"),
    "empty": lambda h: send(h, b""),
    "bytes": lambda h: send(h, b"\x00" * 99, Content_Type="application/zip"),
    "twin": lambda h: send(h, sample(6).content, ETag=f'"{digest_of(sample(6).content)}"'),
    "lying-etag": lambda h: send(h, PACKET.content, ETag=f'"sha256:{"0" * 64}"'),
    "not-modified": lambda h: send(h, b"", 304),
    "range-error": lambda h: send(h, b"", 416),
    "redirect": lambda h: send(h, b"", 302, Location="/login"),
    "escapes": lambda h: send(h, json.dumps({"title": ESCAPES, "detail": ESCAPES * 99}).encode(), 403),
    "escapes-as-text": lambda h: send(h, ESCAPES.encode() * 99, 403),
    "no-problem": lambda h: send(h, b"[[[[", 500),
    "deep": lambda h: send(h, b"[" * 100_000, 400),
    "gzip-lie": lambda h: send(h, b"not gzip", Content_Encoding="gzip", ETag=ETAG),
    "bomb": lambda h: send(h, bomb(64 << 20), Content_Encoding="gzip", ETag=ETAG),
    "bomb-refusal": lambda h: send(h, bomb(64 << 20), 403, Content_Encoding="gzip"),
    "late": lambda h: send(h, b"", 503, Retry_After="9" * 400),
    "odd-late": lambda h: send(h, b"", 429, Retry_After="²"),
}


@pytest.mark.parametrize("page", PAGES)
def test_pull_of_anything_else_is_one_error(
    hostile: Callable[[Answer], str], page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "LONGEST_WAIT", 0.0)
    hostile(PAGES[page])
    with pytest.raises((BrokerError, PacketError)) as caught:
        local_packet(REFERENCE)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700
    assert not list((tmp_path / "home").rglob("*.m2kp")) and used(tmp_path / "home") < 20 << 20


ANSWERS: dict[str, Answer] = {
    "html": lambda h: send(h, b"<html>", Content_Type="text/html"),
    "empty": lambda h: send(h, b""),
    "list": lambda h: send(h, b"[]"),
    "null": lambda h: send(h, b"null"),
    "other-fields": lambda h: send(h, b'{"found": [{"packet": 7}]}'),
    "wrong-type": lambda h: send(h, b'{"found": "x"}'),
    "deep": lambda h: send(h, b'{"found": ' + b"[" * 200_000),
    "not-utf8": lambda h: send(h, b'{"found": "\xff"}'),
    "bomb": lambda h: send(h, bomb(40 << 20), Content_Encoding="gzip"),
}


@pytest.mark.parametrize("reply", ANSWERS)
def test_malformed_answer_is_one_error(hostile: Callable[[Answer], str], reply: str) -> None:
    hostile(ANSWERS[reply])
    for call in (
        lambda: search("x"),
        lambda: BrokerClient().record(PACKET.digest),
        lambda: BrokerClient().lineage(PACKET.digest),
        lambda: BrokerClient().packets(),
        lambda: BrokerClient().set_state(PACKET.digest, b"{}"),
    ):
        with pytest.raises(BrokerError) as caught:
            call()
        assert str(caught.value).isprintable() and len(str(caught.value)) < 700


def test_texts_of_an_answer_do_not_drive_the_terminal(hostile: Callable[[Answer], str]) -> None:
    near = {"packet": ESCAPES, "skill": ESCAPES, "concept": ESCAPES + "\nline", "row": 1, "cosine": 0.5}
    hostile(lambda h: send(h, json.dumps({"near": [near]}).encode()))
    (found,) = BrokerClient().near("x", [1.0])["near"]
    assert found["skill"].isprintable() and found["concept"].count("\n") == 1 and "trusted" in found["skill"]


def test_commands_print_one_safe_line(hostile: Callable[[Answer], str], tmp_path: Path) -> None:
    url = hostile(lambda h: send(h, json.dumps({"title": ESCAPES, "detail": ESCAPES}).encode(), 403))
    refused = m2kt("search", "x", M2KT_BROKER_URL=url)
    assert refused.returncode == 12 and refused.stdout == ""
    assert re.sub(r"\n", "", refused.stderr).isprintable() and "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    "address", ["127.0.0.1:9", "ftp://x", "http://", "http:///x", "x y", "http://u:secret@h", "//h"]
)
def test_address_that_can_never_work_is_refused_at_once(address: str) -> None:
    with pytest.raises(SpecError, match="a broker's address") as caught:
        BrokerClient(address)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["m2kt_SECRET\nX", "m2kt_SECRET\r", "ké_SECRET", "a SECRET", "\x00SECRET", "SECRET\u200b"]
)
def test_key_is_never_printed(hostile: Callable[[Answer], str], key: str) -> None:
    seen: list[str | None] = []
    url = hostile(lambda h: (seen.append(h.headers.get("Authorization")), send(h, b'{"found": []}'))[0])
    try:
        BrokerClient(url, key).search("x")
    except M2KTError as error:
        assert "SECRET" not in str(error) and not seen
    else:
        assert seen == ["Bearer m2kt_SECRET"]


def test_outer_blanks_of_key_and_address_do_not_matter(hostile: Callable[[Answer], str]) -> None:
    seen: list[str | None] = []
    url = hostile(lambda h: (seen.append(h.headers.get("Authorization")), send(h, b'{"found": []}'))[0])
    assert BrokerClient(f"{url}/\n", "m2kt_SECRET\n").search("x") == {"found": []}
    assert seen == ["Bearer m2kt_SECRET"]


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT", 0.0)
    with pytest.raises(BrokerError, match="failed 6 times") as caught:
        BrokerClient(f"http://127.0.0.1:{free_port()}", "m2kt_SECRET").search("x")
    assert "SECRET" not in str(caught.value)


def test_offline_compares_digests(
    hostile: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hostile(lambda h: send(h, PACKET.content, ETag=ETAG))
    path = local_packet(REFERENCE)
    monkeypatch.setenv("M2KT_OFFLINE", "1")
    assert local_packet(REFERENCE) == path
    path.write_bytes(sample(6).content)  # another packet, intact, under the name of the first
    with pytest.raises(PacketError, match="expected the packet"):
        local_packet(REFERENCE)
