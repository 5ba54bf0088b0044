"""The main job over a broker, as on two machines: nothing but its address is shared between them.

``python -m tests.broker.main_job [--place sqlite|postgres] [--student zoo:pico-llama]`` runs it and says what happened.
One machine extracts, signs and publishes; the other searches, pulls by policy, asks for fitness, takes the packet in
and posts its receipt; then the broker is asked what it knows. Each machine is a home and a folder of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.broker.html import read_page
from tests.broker.services import Server, m2kt, postgres, registry

SKILL = "zoo:secret"


@dataclass
class Machine:
    """A home, a folder, a broker's address and a key."""

    folder: Path
    broker: str
    api_key: str

    def __call__(self, *words: str, codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """Runs ``m2kt ... --json``; what it printed."""
        started = time.monotonic()
        done = m2kt(
            *words,
            "--json",
            HOME=str(self.folder),
            M2KT_HOME=str(self.folder / "m2kt"),
            M2KT_BROKER_URL=self.broker,
            M2KT_API_KEY=self.api_key,
        )
        said = f"{self.folder.name}: m2kt {' '.join(words[:3])} ... exit {done.returncode}"
        print(f"{said}, {time.monotonic() - started:.1f} s", flush=True)
        assert done.returncode in codes, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else {"error": done.stderr}


def main_job(server: Server, work: Path, student: str, updates: int | None = None) -> dict[str, Any]:
    """All of it, over a broker that runs; what the broker knows in the end."""
    maker = Machine(work / "maker", server.url, server.key("maker", "publisher"))
    taker = Machine(work / "taker", server.url, server.key("taker", "publisher"))
    for machine in (maker, taker):
        machine.folder.mkdir(parents=True)

    packet = str(maker.folder / "secret.packet")
    maker("extract", SKILL, "--probes", SKILL, "--out", packet)
    owner = maker("keys", "new", "owner")
    maker("sign", packet, "--key", "owner")
    digest = maker("publish", packet)["digest"]

    found = taker("search", "secret")["found"]
    assert [entry["packet"]["digest"] for entry in found] == [digest]
    trust = taker.folder / "trust.yaml"
    key = {"keyid": owner["keyid"], "public_key": owner["public_key"], "owner": "maker", "roles": ["teacher"]}
    trust.write_text(
        yaml.safe_dump({"keys": [{**key, "expires": "2030-01-01"}], "thresholds": {"teacher": 1}})
    )
    pulled = str(taker.folder / "secret.m2kp")
    assert taker("pull", digest, "--out", pulled, "--trust", str(trust))["digest"] == digest
    assert taker("preflight", student, pulled, "--trust", str(trust))["fit"]
    adapter = taker.folder / "secret.adapter"
    more = [] if updates is None else ["--updates", str(updates)]
    place = f"m2kt://{digest}"
    taken = taker("ingest", student, place, "--out", str(adapter), "--trust", str(trust), *more, codes=(0, 5))
    record = taker("publish", place, "--statement", taken["receipt"])
    assert [s["verdict"] for s in record["statements"]] == [taken["verdict"]]
    assert record["statements"][0]["adapter"] == taken["adapter_digest"]
    headers = {"Authorization": f"Bearer {taker.api_key}", "accept": "text/html"}
    page = read_page(httpx2.get(f"{server.url}/packets/{digest}", headers=headers, timeout=120))
    (said,) = page.all("table", class_="statements")
    assert taken["verdict"] in said.text and student in said.text

    maker("yank", digest, "--reason", "the end of the test", "--revoke")
    refused = taker("ingest", student, pulled, "--out", str(taker.folder / "second"), codes=(11,))
    assert "revoked" in refused["error"]
    return {"verdict": taken["verdict"], "accuracy": taken["accuracy"], "lineage": taker("lineage", digest)}


def run(place: str, student: str, updates: int | None = None) -> dict[str, Any]:
    """With services of its own."""
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="m2kt-job-")))
        options: tuple[str, ...] = ()
        if place == "postgres":
            database = stack.enter_context(postgres())
            blobs = stack.enter_context(registry(work / "registry"))
            options = ("--database", database.new_database("broker"), "--store", f"oci://{blobs}/m2kt")
        server = Server(work / "broker", options).start()
        stack.callback(server.kill)
        return main_job(server, work, student, updates)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--place", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--student", default="zoo:pico-llama")
    parser.add_argument("--updates", type=int)
    given = parser.parse_args()
    json.dump(run(given.place, given.student, given.updates), sys.stdout, indent=1)
