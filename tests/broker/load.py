"""Load of many clients: ``python -m tests.broker.load --clients 64 --seconds 120``.

Each client draws requests at random. A response must have status 200, 201 or 429, and a download must equal the upload.
Prints latencies by kind of request, and the server's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from tests.broker.packets import SamplePacket, sample
from tests.broker.services import Server, postgres, registry

KINDS = {"publish": 0.2, "fetch": 0.5, "search": 0.15, "list": 0.1, "near": 0.05}
WIDTHS = (16, 64, 256, 1024)  # packets of 12 to 350 kB
SPACE = "sha256:" + "0" * 64 + "/2"


@dataclass
class Load:
    """The requests of all clients and their outcomes."""

    packets: list[SamplePacket]
    published: dict[str, SamplePacket] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    async def client(self, url: str, key: str, until: float, seed: int) -> None:
        """Run one client until a time."""
        rng = random.Random(seed)
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=60) as http:
            while time.monotonic() < until:
                kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
                started = time.perf_counter()
                status = await getattr(self, f"_{kind}")(http, rng)
                self.seconds[kind].append(time.perf_counter() - started)
                self.statuses[kind, status] += 1
                if status == 429:
                    await asyncio.sleep(rng.uniform(0.5, 1.5))

    async def _publish(self, http: httpx2.AsyncClient, rng: random.Random) -> int:
        packet = rng.choice(self.packets)
        answer = await http.put(f"/v1/packets/{packet.digest}", content=packet.content)
        if answer.status_code in (200, 201):
            self.published[packet.digest] = packet
        return answer.status_code

    async def _fetch(self, http: httpx2.AsyncClient, rng: random.Random) -> int:
        packet = self.published[rng.choice(list(self.published))]
        answer = await http.get(f"/v1/packets/{packet.digest}")
        if answer.content != packet.content:
            self.wrong.append(packet.digest)
        return answer.status_code

    async def _search(self, http: httpx2.AsyncClient, rng: random.Random) -> int:
        return (await http.get("/v1/search", params={"q": rng.choice("abc"), "limit": 10})).status_code

    async def _list(self, http: httpx2.AsyncClient, rng: random.Random) -> int:
        return (await http.get("/v1/packets", params={"limit": 20, "teacher": "zoo:tiny"})).status_code

    async def _near(self, http: httpx2.AsyncClient, rng: random.Random) -> int:
        example = {"space": SPACE, "vector": [rng.gauss(0, 1) for _ in range(WIDTHS[0])], "limit": 5}
        return (await http.post("/v1/search/vectors", json=example)).status_code


def memory(server: Server) -> float:
    """Resident MiB of the server."""
    assert server.process is not None
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def processor_seconds(server: Server) -> float:
    """CPU seconds of the server."""
    assert server.process is not None
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _watch(server: Server, until: float, samples: list[tuple[float, float]]) -> None:
    started = time.monotonic()
    while time.monotonic() < until:
        samples.append((round(time.monotonic() - started), round(memory(server), 1)))
        await asyncio.sleep(10)


async def _run(server: Server, key: str, load: Load, clients: int, seconds: float) -> list[tuple[float, float]]:
    async with httpx2.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {key}"}) as http:
        first = load.packets[0]  # so that searches find a packet from the start
        (await http.put(f"/v1/packets/{first.digest}", content=first.content)).raise_for_status()
        load.published[first.digest] = first
    samples: list[tuple[float, float]] = []
    until = time.monotonic() + seconds
    await asyncio.gather(
        _watch(server, until, samples),
        *(load.client(server.url, key, until, seed) for seed in range(clients)),
    )
    return samples


def run(clients: int, seconds: float, packets: int, place: str) -> dict[str, Any]:
    """Start a server and run the load."""
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="m2kt-load-")))
        load = Load([sample(seed, width=WIDTHS[seed % len(WIDTHS)]) for seed in range(packets)])
        options: tuple[str, ...] = ()
        if place == "postgres":
            database = stack.enter_context(postgres())
            blobs = stack.enter_context(registry(work / "registry"))
            options = ("--database", database.new_database("broker"), "--store", f"oci://{blobs}/m2kt")
        server = Server(work / "broker", options)
        key = server.key("load", "publisher")
        server.start()
        stack.callback(server.kill)
        before, used = memory(server), processor_seconds(server)
        samples = asyncio.run(_run(server, key, load, clients, seconds))
        unexpected = server.log.read_text().count('"unexpected error"')
        return {
            "clients": clients,
            "seconds": seconds,
            "place": place,
            "load average": os.getloadavg(),
            "requests": sum(load.statuses.values()),
            "server's processor, s": round(processor_seconds(server) - used, 1),
            "statuses": {f"{kind} {status}": count for (kind, status), count in sorted(load.statuses.items())},
            "expected statuses only": all(status in (200, 201, 429) for _, status in load.statuses) and not unexpected,
            "wrong bytes": len(load.wrong),
            "packets published": len(load.published),
            "p50 p99 max, s": {k: _spread(v) for k, v in load.seconds.items() if v},
            "memory MiB": {
                "before": round(before, 1),
                "by second": samples,
                "after": round(memory(server), 1),
            },
        }


def _spread(seconds: list[float]) -> list[float]:
    return [round(float(x), 3) for x in (*np.percentile(seconds, [50, 99]), max(seconds))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--packets", type=int, default=400)
    parser.add_argument("--place", choices=["sqlite", "postgres"], default="sqlite")
    arguments = parser.parse_args()
    result = run(arguments.clients, arguments.seconds, arguments.packets, arguments.place)
    json.dump(result, sys.stdout, indent=1)
    sys.exit(0 if result["expected statuses only"] and not result["wrong bytes"] else 1)
