"""Hostile clients against a broker process: without a key, from another site's page, half-sent, cut off, unread."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from m2kt_broker._limits import METHODS
from tests.broker.packets import receipt, sample
from tests.broker.services import Server, answers, wait_until

SERVE = """
import sys
from pathlib import Path
from m2kt_broker import BrokerSettings, serve
settings = BrokerSettings(data=Path(sys.argv[1]), header_seconds=1, body_seconds=1, write_seconds=1)
serve(settings, "127.0.0.1", int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A broker with short times, and a publisher's key."""
    server = Server(tmp_path_factory.mktemp("hostile") / "broker")
    key = server.key("ann", "publisher")
    command = [sys.executable, "-c", SERVE, str(server.data), str(server.port)]
    with open(server.log, "ab") as log:
        server.process = subprocess.Popen(command, stdout=log, stderr=log)
    wait_until(lambda: answers(f"{server.url}/readyz"), "the broker", server.process)
    yield server, key
    server.kill()


@contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        yield connection


def raw(server: Server, head: bytes) -> bytes:
    """The beginning of the answer to raw bytes."""
    with connected(server) as connection:
        connection.sendall(head)
        return connection.recv(4096)


def memory(server: Server) -> int:
    """Resident memory in MiB."""
    assert server.process is not None
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) >> 10


@pytest.mark.parametrize(
    "route", ["POST /v1/search/vectors", "PUT /v1/packets/{}/state", "POST /v1/packets/{}/verdicts"]
)
def test_body_is_not_read_before_the_key(server: tuple[Server, str], route: str) -> None:
    method, path = route.format(sample().digest).split()
    before = memory(server[0])
    connection = http.client.HTTPConnection("127.0.0.1", server[0].port, timeout=20)
    connection.putrequest(method, path)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(200 << 20))
    connection.endheaders()
    answer = connection.getresponse()  # although no byte of the body was sent
    assert answer.status == 401
    connection.close()
    assert memory(server[0]) - before < 20


@pytest.mark.parametrize(
    "route", ["POST /v1/search/vectors", "PUT /v1/packets/{}/state", "POST /v1/packets/{}/verdicts"]
)
@pytest.mark.parametrize("is_chunked", [True, False], ids=["chunked", "length"])
def test_body_with_a_key_is_bounded(server: tuple[Server, str], route: str, is_chunked: bool) -> None:
    method, path = route.format(sample().digest).split()
    headers = {"Authorization": f"Bearer {server[1]}", "Content-Type": "application/json"}
    size = 6 << 20
    body = (b" " * (1 << 16) for _ in range(size >> 16)) if is_chunked else b" " * size
    answer = httpx2.request(method, server[0].url + path, content=body, headers=headers)
    assert answer.status_code == 413 and answer.headers["content-type"] == "application/problem+json"


def test_slow_body_times_out(server: tuple[Server, str]) -> None:
    with connected(server[0]) as connection:
        head = f"POST /v1/search/vectors HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server[1]}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 90\r\n\r\n{{".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")


def test_made_up_methods_add_no_metrics(server: tuple[Server, str]) -> None:
    assert raw(server[0], b"M0 / HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 501")
    before = httpx2.get(f"{server[0].url}/metrics").text
    for i in range(1, 40):
        assert raw(server[0], b"M%d / HTTP/1.1\r\nHost: x\r\n\r\n" % i).startswith(b"HTTP/1.1 501")
        httpx2.get(f"{server[0].url}/no/such/{i}")
    after = httpx2.get(f"{server[0].url}/metrics").text
    series = {
        line.split("{")[1].split("}")[0] for line in after.splitlines() if line.startswith("m2kt_requests_total{")
    }
    assert len(after) - len(before) < 3000 and not any('method="M' in labels for labels in series)
    methods = {labels.split('method="')[1].split('"')[0] for labels in series}
    assert methods <= METHODS | {"other"}


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nX: ", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET / H"]
)
def test_half_sent_headers_are_not_awaited(server: tuple[Server, str], sent: bytes) -> None:
    """Neither of the first request of a connection nor of a later one; also if a byte comes now and then."""
    with connected(server[0]) as connection:
        connection.sendall(sent)
        end, start = b"more", time.monotonic()
        while end and time.monotonic() - start < 8:
            try:
                connection.settimeout(0.4)
                end = connection.recv(4096)
            except TimeoutError:
                connection.send(b"a")
            except ConnectionError:
                end = b""
        assert end == b"" and time.monotonic() - start < 6


def test_slow_request_outlives_the_time_for_headers(server: tuple[Server, str]) -> None:
    packet = sample(7)
    connection = http.client.HTTPConnection("127.0.0.1", server[0].port, timeout=20)
    connection.putrequest("PUT", f"/v1/packets/{packet.digest}")
    connection.putheader("Authorization", f"Bearer {server[1]}")
    connection.putheader("Content-Length", str(len(packet.content)))
    connection.endheaders(packet.content[:100])
    time.sleep(1.5)
    connection.send(packet.content[100:])
    answer = connection.getresponse()
    assert answer.status == 201 and answer.read()
    connection.request("GET", "/healthz")  # the connection serves further requests
    assert connection.getresponse().status == 200


def test_answer_that_nobody_takes_ends(server: tuple[Server, str]) -> None:
    with connected(server[0]) as connection:
        asked = 1500
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * asked)
        time.sleep(2.5)
        received = 0
        while piece := _or_end(connection):
            received += len(piece)
        assert 0 < received < asked * 20_000  # the buffers of the system, and no more


def _or_end(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 16)
    except ConnectionError:
        return b""


def test_client_that_leaves_is_no_error_of_the_server(server: tuple[Server, str]) -> None:
    packet = sample(8)
    connection = http.client.HTTPConnection("127.0.0.1", server[0].port, timeout=20)
    connection.putrequest("PUT", f"/v1/packets/{packet.digest}")
    connection.putheader("Authorization", f"Bearer {server[1]}")
    connection.putheader("Content-Length", str(len(packet.content)))
    connection.putheader("X-Request-ID", "leaver")
    connection.endheaders(packet.content[:100])
    time.sleep(0.3)
    connection.close()
    wait_until(lambda: '"leaver"' in server[0].log.read_text(), "the line of the request")
    lines = [json.loads(line) for line in server[0].log.read_text().splitlines() if '"leaver"' in line]
    assert [line["status"] for line in lines] == [499] and "exception" not in lines[0]
    assert 'status="500"' not in httpx2.get(f"{server[0].url}/metrics").text


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_statement_of_a_foreign_page_is_refused(server: tuple[Server, str], kind: str | None) -> None:
    """A browser sends these types to any site without asking it, with the password that it remembers."""
    password = base64.b64encode(f"x:{server[1]}".encode()).decode()
    headers = {"Authorization": f"Basic {password}", **({} if kind is None else {"Content-Type": kind})}
    url = f"{server[0].url}/v1/packets/{sample().digest}/verdicts"
    assert httpx2.post(url, content=receipt(sample().digest), headers=headers).status_code == 415


@pytest.mark.parametrize(
    "origin", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}], ids=str
)
@pytest.mark.parametrize("route", ["POST /v1/packets/{}/verdicts", "PUT /v1/packets/{}/state", "PUT /v1/packets/{}"])
def test_request_of_a_foreign_page_changes_nothing(
    server: tuple[Server, str], route: str, origin: dict[str, str]
) -> None:
    method, path = route.format(sample().digest).split()
    headers = {"Authorization": f"Bearer {server[1]}", "Content-Type": "application/json", **origin}
    assert httpx2.request(method, server[0].url + path, content=b"{}", headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["x$(id)", "x;id", "a b", "<b>", "x`id`", "a/b", "[::1", ""])
def test_host_that_is_no_name_is_refused(server: tuple[Server, str], host: str) -> None:
    head = f"GET / HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\nAuthorization: Bearer {server[1]}\r\n\r\n"
    assert raw(server[0], head.encode()).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("text", ["x style=", 'x" style="a', " class=", "<b style=", "x style=a class=b", "style='"])
def test_search_for_markup_is_a_page(server: tuple[Server, str], text: str) -> None:
    headers = {"Authorization": f"Bearer {server[1]}", "Accept": "text/html"}
    answer = httpx2.get(f"{server[0].url}/", params={"q": text}, headers=headers)
    assert answer.status_code == 200


def test_head_answers_wherever_get_does(server: tuple[Server, str]) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        answer = httpx2.head(f"{server[0].url}{path}")
        assert answer.status_code == 200 and answer.content == b""
