"""SIGKILL and a full disk: acknowledged uploads survive, and incomplete ones are invisible."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from m2kt_broker import Broker, BrokerSettings
from tests.broker.packets import STATEMENT, SamplePacket, receipt, sample
from tests.broker.services import Server, postgres, wait_until
from tests.broker.test_reindex import rows_of

N_UPLOADERS = 4


@dataclass
class Uploaders:
    """Threads that publish packets until stopped, and record the acknowledged ones."""

    server: Server
    key: str
    acknowledged: dict[str, SamplePacket] = field(default_factory=dict)
    reported: set[str] = field(default_factory=set)
    refused: list[int] = field(default_factory=list)
    _seeds: Iterator[int] = field(default_factory=lambda: iter(range(1000, 10**6)))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._stop.clear()
        self._threads = [threading.Thread(target=self._publish) for _ in range(N_UPLOADERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def until(self, count: int) -> None:
        """Wait for further acknowledgements."""
        goal = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= goal, "acknowledgements")

    def _publish(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        while not self._stop.is_set():
            with self._lock:
                packet = sample(next(self._seeds), width=64)
            try:
                with httpx2.Client(base_url=self.server.url, headers=headers, timeout=30) as client:
                    path = f"/v1/packets/{packet.digest}"
                    answer = client.put(path, content=_in_chunks(packet.content))
                    if answer.status_code in (200, 201):
                        self.acknowledged[packet.digest] = packet
                        answer = client.post(f"{path}/verdicts", content=receipt(packet.digest), headers=STATEMENT)
                        if answer.status_code in (200, 201):
                            self.reported.add(packet.digest)
                    self.refused += [answer.status_code] * (answer.status_code >= 300)
            except httpx2.TransportError:
                time.sleep(0.1)


def _in_chunks(content: bytes) -> Iterator[bytes]:
    for at in range(0, len(content), 10_000):
        yield content[at : at + 10_000]


def check_downloads(uploaders: Uploaders) -> None:
    """Check that acknowledged packets are listed, and that listed packets are complete."""
    with httpx2.Client(base_url=uploaders.server.url, headers={"Authorization": f"Bearer {uploaders.key}"}) as client:
        seen, cursor = set(), None
        while True:
            query = {"limit": "200", **({"cursor": cursor} if cursor else {})}
            page = client.get("/v1/packets", params=query).json()
            for view in page["packets"]:
                seen.add(view["digest"])
                download = client.get(f"/v1/packets/{view['digest']}")
                assert download.status_code == 200 and download.headers["etag"] == f'"{view["etag"]}"'
                if view["digest"] in uploaders.acknowledged:
                    assert download.content == uploaders.acknowledged[view["digest"]].content
                if view["digest"] in uploaders.reported:
                    assert view["uncounted"] == 1
            cursor = page["next"]
            if cursor is None:
                break
    assert set(uploaders.acknowledged) <= seen and uploaders.reported <= seen


def check_reindex(settings: BrokerSettings) -> None:
    """Check that a rebuilt database has the same rows."""
    broker = Broker(settings)
    before = rows_of(broker)
    broker.reindex()
    assert rows_of(broker) == before
    broker.close()


def test_killed_server_keeps_acknowledged_uploads(tmp_path: Path) -> None:
    server = Server(tmp_path / "broker")
    uploaders = Uploaders(server, server.key("ann", "publisher"))
    server.start()
    for _ in range(2):
        uploaders.start()
        uploaders.until(5)
        time.sleep(random.random() / 5)
        server.kill()
        uploaders.stop()
        server.start()
        check_downloads(uploaders)
    server.kill()
    assert uploaders.refused.count(500) == 0
    check_reindex(BrokerSettings(data=server.data))


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.registry
def test_killed_postgresql_and_server_keep_acknowledged_uploads(tmp_path: Path, registry: str) -> None:
    with postgres() as pg:
        name = f"faults{random.randrange(10**9)}"
        settings = BrokerSettings(
            data=tmp_path / "broker", database=pg.new_database(name), store=f"oci://{registry}/{name}"
        )
        options = ("--database", str(settings.database), "--store", str(settings.store))
        server = Server(settings.data, options)
        uploaders = Uploaders(server, server.key("ann", "publisher"))
        server.start()
        for _ in range(3):
            uploaders.start()
            uploaders.until(5)
            pg.kill()
            wait_until(lambda: httpx2.get(f"{server.url}/readyz").status_code == 503, "the broker's error")
            assert httpx2.get(f"{server.url}/healthz").status_code == 200
            pg.start()
            wait_until(lambda: httpx2.get(f"{server.url}/readyz").status_code == 200, "the broker's recovery")
            uploaders.until(5)  # without a restart of the broker
            uploaders.stop()
            check_downloads(uploaders)
        assert set(uploaders.refused) <= {503, 429}, uploaders.refused
        uploaders.start()
        uploaders.until(3)
        server.kill()
        uploaders.stop()
        server.start()
        check_downloads(uploaders)
        server.kill()
        check_reindex(settings)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a disk of 6 MB")
def test_full_disk(small_disk: Path) -> None:
    server = Server(small_disk / "broker")
    key = server.key("ann", "publisher")
    server.start()
    headers = {"Authorization": f"Bearer {key}"}
    client = httpx2.Client(base_url=server.url, headers=headers, timeout=30)
    uploaders = Uploaders(server, key)

    def publish(seed: int) -> int:
        packet = sample(seed, width=512)
        answer = client.put(f"/v1/packets/{packet.digest}", content=packet.content)
        if answer.status_code == 201:
            uploaders.acknowledged[packet.digest] = packet
        else:
            assert answer.headers["content-type"] == "application/problem+json", answer.text
        return answer.status_code

    assert [publish(seed) for seed in range(3)] == [201] * 3
    ballast = _fill(small_disk / "ballast")
    assert [publish(seed) for seed in (3, 4)] == [507] * 2
    check_downloads(uploaders)  # reads still work
    ballast.unlink()
    assert publish(3) == 201
    check_downloads(uploaders)
    server.kill()
    for upload in (small_disk / "broker" / "spool").iterdir():
        assert not list(upload.iterdir())
    server.start()
    check_downloads(uploaders)
    server.kill()


def _fill(path: Path) -> Path:
    """Fill the disk with a file."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                pass
    return path
