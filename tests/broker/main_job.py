"""The main job over a broker, as on two machines that share only the broker's address.

``python -m tests.broker.main_job [--place sqlite|postgres] [--student zoo:pico-llama]`` prints the result.
One machine extracts, signs and publishes; the other searches, pulls with a trust policy, runs preflight and ingest, and
posts its receipt. Each machine has its own home and working folder.
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
    """A working folder with a home, a broker's address and an API key."""

    folder: Path
    broker: str
    api_key: str

    def __call__(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """Run ``m2kt ... --json`` and return its result."""
        started = time.monotonic()
        done = m2kt(
            *arguments,
            "--json",
            HOME=str(self.folder),
            M2KT_HOME=str(self.folder / "m2kt"),
            M2KT_BROKER_URL=self.broker,
            M2KT_API_KEY=self.api_key,
        )
        line = f"{self.folder.name}: m2kt {' '.join(arguments[:3])} ... exit {done.returncode}"
        print(f"{line}, {time.monotonic() - started:.1f} s", flush=True)
        assert done.returncode in codes, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else {"error": done.stderr}


def main_job(server: Server, work: Path, student: str, updates: int | None = None) -> dict[str, Any]:
    """Run the job over a running broker; return verdict, accuracy and lineage."""
    author = Machine(work / "author", server.url, server.key("author", "publisher"))
    recipient = Machine(work / "recipient", server.url, server.key("recipient", "publisher"))
    for machine in (author, recipient):
        machine.folder.mkdir(parents=True)

    packet = str(author.folder / "secret.packet")
    author("extract", SKILL, "--probes", SKILL, "--out", packet)
    owner = author("keys", "new", "owner")
    author("sign", packet, "--key", "owner")
    digest = author("publish", packet)["digest"]

    matches = recipient("search", "secret")["found"]
    assert [match["packet"]["digest"] for match in matches] == [digest]
    trust = recipient.folder / "trust.yaml"
    key = {
        "keyid": owner["keyid"],
        "public_key": owner["public_key"],
        "owner": "author",
        "roles": ["teacher"],
    }
    trust.write_text(yaml.safe_dump({"keys": [{**key, "expires": "2030-01-01"}], "thresholds": {"teacher": 1}}))
    pulled = str(recipient.folder / "secret.m2kp")
    assert recipient("pull", digest, "--out", pulled, "--trust", str(trust))["digest"] == digest
    assert recipient("preflight", student, pulled, "--trust", str(trust))["fit"]
    adapter = recipient.folder / "secret.adapter"
    options = [] if updates is None else ["--updates", str(updates)]
    reference = f"m2kt://{digest}"
    ingested = recipient(
        "ingest", student, reference, "--out", str(adapter), "--trust", str(trust), *options, codes=(0, 5)
    )
    record = recipient("publish", reference, "--statement", ingested["receipt"])
    assert [s["verdict"] for s in record["statements"]] == [ingested["verdict"]]
    assert record["statements"][0]["adapter"] == ingested["adapter_digest"]
    headers = {"Authorization": f"Bearer {recipient.api_key}", "accept": "text/html"}
    page = read_page(httpx2.get(f"{server.url}/packets/{digest}", headers=headers, timeout=120))
    (table,) = page.all("table", class_="statements")
    assert ingested["verdict"] in table.text and student in table.text

    author("yank", digest, "--reason", "end of the test", "--revoke")
    refused = recipient("ingest", student, pulled, "--out", str(recipient.folder / "second"), codes=(11,))
    assert "revoked" in refused["error"]
    return {
        "verdict": ingested["verdict"],
        "accuracy": ingested["accuracy"],
        "lineage": recipient("lineage", digest),
    }


def run(place: str, student: str, updates: int | None = None) -> dict[str, Any]:
    """Start the services and run the job."""
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
    arguments = parser.parse_args()
    json.dump(run(arguments.place, arguments.student, arguments.updates), sys.stdout, indent=1)
