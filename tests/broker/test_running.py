"""The service as a process: start without torch, concurrency limits, logs and metrics, shutdown."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from m2kt.remote import BrokerClient
from tests.broker.packets import sample
from tests.broker.services import Server, wait_until

WITHOUT_MODEL_LIBRARIES = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "accelerate", "tokenizers", "gguf"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A broker that accepts two concurrent uploads, and a publisher's key."""
    server = Server(tmp_path_factory.mktemp("running") / "broker", ("--uploads", "2"))
    key = server.key("ann", "publisher")
    yield server.start(), key
    server.kill()


def start_upload(server: Server, key: str, seed: int) -> tuple[http.client.HTTPConnection, bytes]:
    """Send the first part of an upload; return the connection and the remaining bytes."""
    packet = sample(seed)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.putrequest("PUT", f"/v1/packets/{packet.digest}")
    connection.putheader("Authorization", f"Bearer {key}")
    connection.putheader("Content-Length", str(len(packet.content)))
    connection.endheaders(packet.content[:1000])
    return connection, packet.content[1000:]


def in_progress(server: Server) -> int:
    metrics = httpx2.get(f"{server.url}/metrics").text
    line = next(line for line in metrics.splitlines() if line.startswith("m2kt_requests_under_way "))
    return int(float(line.split()[1])) - 1  # without the request for the metrics


def test_package_and_command_import_no_torch() -> None:
    script = WITHOUT_MODEL_LIBRARIES + (
        "import m2kt_broker\n"
        "print(sorted({'fastapi', 'sqlalchemy', 'alembic', 'numpy'} & set(sys.modules)))\n"
        "import m2kt.cli\n"
        "print(sorted({'fastapi', 'sqlalchemy', 'alembic'} & set(sys.modules)))\n"
        "from m2kt_broker import Broker, BrokerSettings, create_app, serve\n"
        "print(sorted({'alembic', 'fsspec', 'oras', 'matplotlib', 'jinja2'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["[]"] * 3, done.stdout + done.stderr


def test_serves_without_torch(tmp_path: Path) -> None:
    server = Server(tmp_path / "broker")
    words = [sys.executable, "-c", WITHOUT_MODEL_LIBRARIES + "from m2kt.cli import main; main()"]
    process = subprocess.Popen([*words, "serve", "--data", str(server.data), "--port", str(server.port)])
    try:
        wait_until(lambda: _is_alive(server), "the broker", process)
        assert httpx2.get(f"{server.url}/readyz").json() == {"status": "ok"}
    finally:
        process.kill()
        process.wait()


def test_concurrent_uploads_are_bounded(server: tuple[Server, str]) -> None:
    slow = [start_upload(*server, seed) for seed in (0, 1)]
    wait_until(lambda: in_progress(server[0]) == 2, "two uploads")
    packet = sample(2)
    headers = {"Authorization": f"Bearer {server[1]}"}
    busy = httpx2.put(f"{server[0].url}/v1/packets/{packet.digest}", content=packet.content, headers=headers)
    assert busy.status_code == 429 and busy.headers["retry-after"] == "1"
    for connection, rest in slow:
        connection.send(rest)
        assert connection.getresponse().status == 201
    again = httpx2.put(f"{server[0].url}/v1/packets/{packet.digest}", content=packet.content, headers=headers)
    assert again.status_code == 201


def test_aborted_upload_stores_nothing(server: tuple[Server, str]) -> None:
    connection, _ = start_upload(*server, 50)
    wait_until(lambda: in_progress(server[0]) == 1, "an upload")
    assert connection.sock is not None
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    wait_until(lambda: in_progress(server[0]) == 0, "the end of the request")
    assert list((server[0].data / "spool").iterdir()) == []
    headers = {"Authorization": f"Bearer {server[1]}"}
    assert httpx2.get(f"{server[0].url}/v1/packets/{sample(50).digest}", headers=headers).status_code == 404


def test_requests_are_logged_and_counted(server: tuple[Server, str]) -> None:
    headers = {"X-Request-ID": "abc-1", "Authorization": f"Bearer {server[1]}"}
    answer = httpx2.get(f"{server[0].url}/v1/packets/nonsense", headers=headers)
    assert answer.headers["x-request-id"] == "abc-1"
    wait_until(lambda: '"abc-1"' in server[0].log.read_text(), "the line of the request")
    lines = [json.loads(line) for line in server[0].log.read_text().splitlines()]
    line = next(line for line in lines if line.get("request") == "abc-1")
    assert (line["status"], line["method"], line["route"]) == (422, "GET", "/v1/packets/{digest}")
    assert line["level"] == "info" and line["timestamp"] and "key" not in line
    assert server[1] not in server[0].log.read_text()
    metrics = httpx2.get(f"{server[0].url}/metrics").text
    assert 'm2kt_requests_total{method="GET",route="/v1/packets/{digest}",status="422"}' in metrics


def test_sigterm_completes_requests_in_progress(tmp_path: Path) -> None:
    server = Server(tmp_path / "broker")
    key = server.key("ann", "publisher")
    server.start()
    connection, rest = start_upload(server, key, 3)
    wait_until(lambda: in_progress(server) == 1, "an upload")
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not _is_alive(server), "the end of listening")
    connection.send(rest)
    assert connection.getresponse().status == 201
    assert server.process.wait(timeout=60) in (
        0,
        -signal.SIGTERM,
    )  # uvicorn stops, then raises the signal again
    server.start()
    with BrokerClient(server.url, key) as client:
        assert client.record(sample(3).digest)["digest"] == sample(3).digest
    server.kill()


def _is_alive(server: Server) -> bool:
    try:
        return httpx2.get(f"{server.url}/healthz").status_code == 200
    except httpx2.TransportError:
        return False
