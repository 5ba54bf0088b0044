"""The client: references, downloads, retries, offline mode, revocations, commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from m2kt.errors import BrokerError, PacketError, SpecError, TrustError
from m2kt.packet import Packet, sign_notice
from m2kt.remote import BrokerClient, Bucket, Repository, local_packet, open_packet, refuse_revoked
from m2kt.remote import _http as http
from tests.broker.conftest import empty_cache
from tests.broker.packets import receipt, sample
from tests.broker.services import Server
from tests.packet.trusting import key, policy_file, trusted


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    server = Server(tmp_path_factory.mktemp("client") / "broker")
    key = server.key("ann", "publisher")
    yield server.start(), key
    server.kill()


@pytest.fixture
def client(server: tuple[Server, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BrokerClient]:
    """A client of the broker with an empty cache."""
    monkeypatch.setenv("M2KT_BROKER_URL", server[0].url)
    monkeypatch.setenv("M2KT_API_KEY", server[1])
    empty_cache(tmp_path, monkeypatch)
    with BrokerClient() as client:
        yield client


def published(client: BrokerClient, tmp_path: Path, seed: int, signer: str | None = None) -> str:
    packet = sample(seed, signer=signer)
    client.publish(packet.digest, packet.at(tmp_path / f"{seed}.m2kp"))
    return packet.digest


class Faulty(BaseHTTPRequestHandler):
    """An HTTP server for one packet; its script lists the failure of each request."""

    content: bytes = b""
    etag = '"sha256:none"'
    script: list[str] = []  # noqa: RUF012
    requests: list[dict[str, str]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        Faulty.requests.append(dict(self.headers))
        act = Faulty.script.pop(0) if Faulty.script else "whole"
        if act.isdecimal():
            self.send_response(int(act))
            self.send_header("Content-Length", "0")
            self.send_header("Retry-After", "0")
            self.end_headers()
            return
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        body = Faulty.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", Faulty.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if act == "half" else b"x" * len(body) if act == "corrupt" else body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Faulty]]:
    from m2kt_broker import digest_of

    monkeypatch.setattr(http, "FIRST_WAIT", 0.0)
    Faulty.content, Faulty.script, Faulty.requests = sample(5).content, [], []
    Faulty.etag = f'"{digest_of(Faulty.content)}"'
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    Thread(target=listener.serve_forever, daemon=True).start()
    monkeypatch.setenv("M2KT_BROKER_URL", f"http://127.0.0.1:{listener.server_port}")
    empty_cache(tmp_path, monkeypatch)
    yield Faulty
    listener.shutdown()
    listener.server_close()


def test_open_packet_accepts_references_and_paths(client: BrokerClient, tmp_path: Path) -> None:
    digest = published(client, tmp_path, 0)
    assert open_packet(f"m2kt://{digest}").digest == digest
    assert open_packet(str(tmp_path / "0.m2kp")).digest == digest
    assert local_packet(tmp_path / "0.m2kp") == tmp_path / "0.m2kp"


@pytest.mark.parametrize(
    "reference",
    ["m2kt://secret", "ftp://host/x", "oci://host/name", "oci://host", "hf://secret", "m2kt://sha256:12"],
)
def test_invalid_reference_is_an_error(reference: str) -> None:
    with pytest.raises(SpecError, match="expected"):
        local_packet(reference)


def test_cached_packet_is_not_downloaded_again(client: BrokerClient, tmp_path: Path) -> None:
    reference = f"m2kt://{published(client, tmp_path, 1)}"
    sent: list[int] = []
    local_packet(reference, lambda done, size: sent.append(done))
    assert sent
    sent.clear()
    local_packet(reference, lambda done, size: sent.append(done))
    assert not sent


def test_interrupted_download_resumes(faulty: type[Faulty]) -> None:
    faulty.script[:] = ["half", "half", "503", "429", "whole"]
    path = local_packet(f"m2kt://{sample(5).digest}")
    assert path.read_bytes() == sample(5).content
    starts = [int(a.get("Range", "bytes=0-")[6:-1]) for a in faulty.requests]
    half = len(sample(5).content) // 2
    assert starts[:3] == [0, half, half + (len(sample(5).content) - half) // 2]
    assert not list(path.parent.glob("*.part*"))


def test_retries_are_bounded(faulty: type[Faulty]) -> None:
    faulty.script[:] = ["503"] * 99
    with pytest.raises(BrokerError, match="failed 6 times, last: 503"):
        local_packet(f"m2kt://{sample(5).digest}")
    assert len(faulty.requests) == http.ATTEMPTS


def test_corrupted_download_is_rejected(faulty: type[Faulty]) -> None:
    faulty.script[:] = ["corrupt"]
    with pytest.raises(BrokerError, match="damaged in transfer"):
        local_packet(f"m2kt://{sample(5).digest}")
    assert open_packet(f"m2kt://{sample(5).digest}").digest == sample(5).digest


def test_packet_with_another_digest_is_rejected(faulty: type[Faulty]) -> None:
    with pytest.raises(PacketError, match="do not use this broker"):
        local_packet(f"m2kt://{sample(6).digest}")
    with pytest.raises(PacketError, match="do not use this broker"):
        local_packet(f"m2kt://{sample(6).digest}")  # the packet was not cached


def test_offline_uses_the_cache(client: BrokerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = published(client, tmp_path, 2)
    packet = Packet.load(tmp_path / "2.m2kp")
    local_packet(f"m2kt://{digest}")
    monkeypatch.setenv("M2KT_BROKER_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(http, "FIRST_WAIT", 0.0)
    with pytest.raises(BrokerError, match="M2KT_OFFLINE=1 uses the cached copy"):
        local_packet(f"m2kt://{digest}")
    with pytest.raises(BrokerError, match="M2KT_OFFLINE=1 goes on without"):
        refuse_revoked(packet)
    monkeypatch.setenv("M2KT_OFFLINE", "1")
    assert open_packet(f"m2kt://{digest}").digest == digest
    refuse_revoked(packet)
    with pytest.raises(BrokerError, match="cached copy"):
        local_packet(f"m2kt://{sample(3).digest}")


def test_revocation_is_enforced_and_remembered(
    client: BrokerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = published(client, tmp_path, 4, "ann")
    file = tmp_path / "4.m2kp"
    refuse_revoked(Packet.load(file))
    local_packet(f"m2kt://{digest}")
    client.set_state(digest, sign_notice(digest, "revoked", "poisoned rows", Path(key("ann").path)))
    with pytest.raises(TrustError, match="poisoned rows"):
        local_packet(f"m2kt://{digest}")
    from m2kt import pipeline

    with pytest.raises(TrustError, match="poisoned rows"):  # before the student is loaded
        pipeline.ingest("no-such-student", file, tmp_path / "out")
    with pytest.raises(TrustError, match="poisoned rows"):
        pipeline.preflight("no-such-student", file)
    monkeypatch.delenv("M2KT_BROKER_URL")
    with pytest.raises(TrustError, match="by its author: poisoned rows"):
        pipeline.ingest("no-such-student", file, tmp_path / "out")


def test_client_commands(client: BrokerClient, tmp_path: Path) -> None:
    def run(*words: str, code: int = 0) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "m2kt.cli", *words],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if "--json" in words else done.stdout + done.stderr

    packet = sample(20, signer="tom")
    file, trust = packet.at(tmp_path / "p.m2kp"), policy_file(tmp_path / "t.yaml", trusted("tom", "teacher"))
    other_trust = policy_file(tmp_path / "s.yaml", trusted("eve", "teacher"))
    statement, author = tmp_path / "receipt.json", str(key("tom").path)
    statement.write_bytes(receipt(packet.digest))
    view = run("publish", str(file), "--statement", str(statement), "--json")
    assert view["digest"] == packet.digest and view["uncounted"] == 1 and view["verdicts"] == {}
    assert packet.digest in {f["packet"]["digest"] for f in run("search", "tiny", "--json")["found"]}
    near = run("search", "--like", str(file), "--row", "3", "--json")["near"]
    assert (near[0]["packet"], near[0]["row"]) == (packet.digest, 3)
    assert "adapter" in run("lineage", packet.digest)
    out = tmp_path / "out.m2kp"
    assert "not trusted" in run("pull", packet.digest, "--out", str(out), "--trust", str(other_trust), code=11)
    assert not out.exists()
    run("pull", packet.digest, "--out", str(out), "--trust", str(trust))
    assert out.read_bytes() == packet.content
    run("inspect", f"m2kt://{packet.digest}", "--json")
    run("verify", f"m2kt://{packet.digest}", "--trust", str(trust))
    assert "is yanked: old" in run("yank", packet.digest, "--reason", "old", "--key", author)
    assert packet.digest not in {f["packet"]["digest"] for f in run("search", "tiny", "--json")["found"]}
    assert "only the author" in run("yank", packet.digest, "--reason", "bad", "--revoke", code=12)
    run("yank", packet.digest, "--reason", "bad", "--revoke", "--key", author)
    assert "bad" in run("pull", packet.digest, "--out", str(tmp_path / "x"), code=11)
    assert "404" in run("lineage", "sha256:" + "9" * 64, code=12)


def test_bucket_reference(s3: dict[str, str], client: BrokerClient, tmp_path: Path) -> None:
    packet = sample(30)
    Bucket("packets/team").put("secret.m2kp", packet.at(tmp_path / "p.m2kp"))
    assert open_packet("s3://packets/team/secret.m2kp").digest == packet.digest
    sent: list[int] = []
    local_packet("s3://packets/team/secret.m2kp", lambda done, size: sent.append(done))
    assert not sent
    Bucket("packets/team").put("secret.m2kp", sample(31).content)
    assert open_packet("s3://packets/team/secret.m2kp").digest == sample(31).digest
    Bucket("packets/team").put("secret.m2kp", b"edited")
    with pytest.raises(PacketError):
        open_packet("s3://packets/team/secret.m2kp")
    with pytest.raises(BrokerError, match="expected a packet at"):
        local_packet("s3://packets/team/nothing.m2kp")


@pytest.mark.registry
def test_registry_reference(registry: str, client: BrokerClient, tmp_path: Path) -> None:
    from m2kt.remote import PACKET_ARTEFACT, RECORD_ARTEFACT
    from m2kt_broker import digest_of

    packet, repository = sample(32), Repository(f"{registry}/team/secret")
    repository.push("v1", packet.content, digest_of(packet.content), PACKET_ARTEFACT, {"title": "secret.m2kp"})
    assert open_packet(f"oci://{registry}/team/secret:v1").digest == packet.digest
    repository.push("log", b"{}", digest_of(b"{}"), RECORD_ARTEFACT)
    with pytest.raises(PacketError, match="expected a packet"):
        local_packet(f"oci://{registry}/team/secret:log")
    with pytest.raises(BrokerError, match="expected a packet at"):
        local_packet(f"oci://{registry}/team/secret:v2")


def test_hub_reference(tmp_path: Path) -> None:
    """Download by huggingface_hub from the local hub of tests/packet."""
    from tests.packet.hub import Hub

    saved = Packet.load(sample(33).at(tmp_path / "p.m2kp")).save(tmp_path / "hub" / "ann" / "tiny")
    assert saved.is_dir() and Hub
    root = Path(__file__).parents[2]
    words = [sys.executable, "-m", "tests.packet.hub", str(tmp_path / "hub")]
    hub = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=root)
    assert hub.stdout is not None
    port = hub.stdout.readline().strip()
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "cache"),
        "M2KT_HOME": str(tmp_path / "home"),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "m2kt.cli", "inspect", "hf://ann/tiny@main", "--json"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        hub.kill()
        hub.wait()
    assert json.loads(done.stdout)["digest"] == sample(33).digest, done.stderr
