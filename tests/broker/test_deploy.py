"""The wheels, the image and the compose file, with local hosts, ports and folders; no container daemon is needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from deploy.requirements import MODEL_LIBRARIES, requirements
from m2kt.packet import Packet
from tests.broker.html import read_page
from tests.broker.packets import STATEMENT, receipt, sample
from tests.broker.services import ROOT, Postgres, answers, free_port, m2kt, wait_until

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
FINAL_STAGE = DOCKERFILE.split("\nFROM ")[-1].replace("\\\n", " ")
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
WITHOUT_MODEL_LIBRARIES = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(MODEL_LIBRARIES)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
from m2kt.cli import main
main()
"""


def instruction(name: str) -> str:
    """The last instruction of that name in the image's final stage."""
    return re.findall(rf"^{name}\s+(.*)$", FINAL_STAGE, re.M)[-1]  # type: ignore[no-any-return]


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in instruction("ENV").split())


@contextmanager
def running(folder: Path, **environment: str) -> Iterator[tuple[str, Callable[[], int]]]:
    """The image's command without the model libraries; yields its URL and its health check."""
    port = str(free_port())
    command = [*json.loads(instruction("ENTRYPOINT")), *json.loads(instruction("CMD"))]
    assert command[0] == "m2kt" and command[command.index("--port") + 1] == instruction("EXPOSE") == "8765"
    assert command[command.index("--host") + 1] == "0.0.0.0"
    arguments = [{"8765": port, "0.0.0.0": "127.0.0.1"}.get(word, word) for word in command[1:]]
    variables = {**os.environ, **image_environment(), "M2KT_DATA": str(folder), **environment}
    variables["PATH"] = os.environ["PATH"]
    process = subprocess.Popen([sys.executable, "-c", WITHOUT_MODEL_LIBRARIES, *arguments], env=variables)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(f"{url}/healthz"), "the broker", process)
        check = json.loads(instruction("HEALTHCHECK").split("CMD", 1)[1])
        assert check[0] == "python"
        probe = [sys.executable, *(word.replace("8765", port) for word in check[1:])]
        yield url, lambda: subprocess.run(probe, env=variables, capture_output=True, check=False).returncode
        stop = getattr(signal, instruction("STOPSIGNAL"))
        process.send_signal(stop)
        assert process.wait(timeout=60) in (0, -stop)  # uvicorn stops, then raises the signal again
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def check_that_the_page_shows_the_verdict(url: str, key: str) -> None:
    """Publish a packet and a receipt, then read both from the packet's page."""
    packet, headers = sample(0), {"Authorization": f"Bearer {key}"}
    packet_url = f"{url}/v1/packets/{packet.digest}"
    published = httpx2.put(packet_url, content=packet.content, headers=headers)
    assert published.status_code == 201, published.text
    reported = httpx2.post(f"{packet_url}/verdicts", content=receipt(packet.digest), headers=headers | STATEMENT)
    assert reported.status_code == 201, reported.text
    page = read_page(
        httpx2.get(f"{url}/packets/{packet.digest}", headers={**headers, "accept": "text/html"}, timeout=60)
    )
    assert "zoo:pico-llama" in page.text and "accepted" in page.text and page.all("svg", class_="graph")


def publisher_key(**environment: str) -> str:
    made = m2kt("broker", "keys", "new", "ann", "--role", "publisher", "--json", **environment)
    return str(json.loads(made.stdout)["key"])


def test_image_serves_passes_its_health_check_and_stops(tmp_path: Path) -> None:
    key = publisher_key(M2KT_DATA=str(tmp_path / "data"))
    with running(tmp_path / "data") as (url, health_check):
        assert health_check() == 0
        check_that_the_page_shows_the_verdict(url, key)


@pytest.mark.postgres
@pytest.mark.registry
def test_compose_environment_connects_the_services(tmp_path: Path, pg: Postgres, registry: str) -> None:
    environment: dict[str, str] = dict(COMPOSE["services"]["broker"]["environment"])
    database = pg.new_database("compose")
    environment["M2KT_DATABASE"] = re.sub(r"(?<=@)\S+$", database.split("@")[1], environment["M2KT_DATABASE"])
    environment["M2KT_DATABASE"] = re.sub(r"\$\{[^}]*\}", "letters", environment["M2KT_DATABASE"])
    environment["M2KT_STORE"] = environment["M2KT_STORE"].replace("localhost:5000", registry)
    assert environment["M2KT_STORE"] == f"oci://{registry}/m2kt"
    key = publisher_key(M2KT_DATA=str(tmp_path), **environment)
    with running(tmp_path, **environment) as (url, health_check):
        assert health_check() == 0
        check_that_the_page_shows_the_verdict(url, key)


def test_health_check_fails_without_the_store(tmp_path: Path) -> None:
    with running(tmp_path) as (_, health_check):
        assert health_check() == 0
        shutil.rmtree(tmp_path / "store")
        assert health_check() != 0


def test_image_runs_unprivileged_and_copies_only_what_the_dockerignore_admits() -> None:
    assert instruction("USER").isdecimal() and int(instruction("USER")) > 0
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.M)
    copied = {Path(word) for line in copies for word in line.split()}
    lines = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    admitted = {Path(line[1:]) for line in lines if line.startswith("!")}
    assert admitted <= copied and all({path, *path.parents} & admitted for path in copied)
    assert all((ROOT / path).exists() for path in copied)


def test_requirements_are_those_of_both_distributions_without_model_libraries() -> None:
    names = {re.split(r"[^\w-]", line, maxsplit=1)[0] for line in requirements(ROOT)}
    assert {"fastapi", "numpy", "jinja2", "matplotlib", "psycopg", "oras"} <= names
    assert not names & MODEL_LIBRARIES and "m2kt" not in names


@pytest.mark.slow
def test_wheels_serve_from_a_fresh_environment(tmp_path: Path) -> None:
    """Build both wheels, install them as the image does, then publish and pull a packet. Needs a package index."""

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    port, python, installed = free_port(), tmp_path / "venv/bin/python", tmp_path / "venv/bin/m2kt"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"M2KT_HOME": str(tmp_path / "home"), "M2KT_BROKER_URL": f"http://127.0.0.1:{port}"}
    venv.create(tmp_path / "venv", with_pip=True)
    pip = (python, "-m", "pip", "--quiet")
    run(*pip, "install", "--constraint", ROOT / "constraints.txt", *requirements(ROOT))
    run(*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path / "wheels", ROOT, ROOT / "packages/m2kt-broker")
    run(*pip, "install", "--no-deps", *(tmp_path / "wheels").glob("*.whl"))
    assert run(python, "-c", "from importlib.util import find_spec as f; print(f('torch'))") == "None\n"
    keys = ("broker", "keys", "new", "ann", "--role", "publisher", "--data", tmp_path / "data", "--json")
    environment["M2KT_API_KEY"] = json.loads(run(installed, *keys))["key"]
    command = [str(installed), "serve", "--data", str(tmp_path / "data"), "--port", str(port)]
    server = subprocess.Popen(command, env=environment, cwd=tmp_path)
    try:
        wait_until(lambda: answers(f"{environment['M2KT_BROKER_URL']}/readyz"), "the broker", server)
        packet = ROOT / "tests/golden/packet-v1.m2kp"
        digest = json.loads(run(installed, "publish", packet, "--json"))["digest"]
        assert digest == Packet.load(packet).digest
        run(installed, "pull", digest, "--out", tmp_path / "pulled.m2kp")
        assert (tmp_path / "pulled.m2kp").read_bytes() == packet.read_bytes()
        headers = {"Authorization": f"Bearer {environment['M2KT_API_KEY']}", "accept": "text/html"}
        page_url = f"{environment['M2KT_BROKER_URL']}/packets/{digest}"
        assert read_page(httpx2.get(page_url, headers=headers, timeout=60)).all("svg", class_="graph")
    finally:
        server.kill()
        server.wait()


def test_compose_file_is_consistent() -> None:
    services: dict[str, Any] = COMPOSE["services"]
    volumes = {v.split(":")[0] for s in services.values() for v in s["volumes"]}
    assert volumes == set(COMPOSE["volumes"])
    broker = services["broker"]
    assert (ROOT / "deploy" / broker["build"]["context"] / broker["build"]["dockerfile"]).is_file()
    for name, dependency in broker["depends_on"].items():
        assert dependency["condition"] == "service_healthy" and services[name]["healthcheck"]["test"]
    # the client accepts plain HTTP only from localhost, so the broker shares the registry's network and port
    assert broker["network_mode"] == "service:registry" and "ports" not in broker
    assert services["registry"]["ports"] == ["127.0.0.1:8765:8765"]
    assert broker["read_only"] and image_environment()["MPLCONFIGDIR"].startswith(broker["tmpfs"][0])
    assert int(broker["stop_grace_period"].removesuffix("s")) > 30
