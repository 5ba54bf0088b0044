"""What the image and the compose file say, run as it stands but for hosts, ports and folders: no daemon is needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from deploy.requirements import MODELS, requirements
from tests.broker.reading import read_page
from tests.broker.services import ROOT, Postgres, answers, free_port, m2kt, wait_until
from tests.broker.speaking import made, receipt

FINAL = (ROOT / "deploy" / "Dockerfile").read_text().split("\nFROM ")[-1].replace("\\\n", " ")
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
WITHOUT = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(MODELS)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from m2kt.cli import main
main()
"""


def instruction(name: str) -> str:
    """The last one of that name in the image's final stage."""
    return re.findall(rf"^{name}\s+(.*)$", FINAL, re.M)[-1]  # type: ignore[no-any-return]


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in instruction("ENV").split())


@contextmanager
def running(folder: Path, **environment: str) -> Iterator[tuple[str, Callable[[], int]]]:
    """The image's command without the libraries of models; its address, and its health check."""
    port = str(free_port())
    words = [*json.loads(instruction("ENTRYPOINT")), *json.loads(instruction("CMD"))]
    assert words[0] == "m2kt" and words[words.index("--port") + 1] == instruction("EXPOSE") == "8765"
    assert words[words.index("--host") + 1] == "0.0.0.0"
    words = [{"8765": port, "0.0.0.0": "127.0.0.1"}.get(word, word) for word in words[1:]]
    told = {**os.environ, **image_environment(), "M2KT_DATA": str(folder), **environment}
    told["PATH"] = os.environ["PATH"]
    process = subprocess.Popen([sys.executable, "-c", WITHOUT, *words], env=told)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(f"{url}/healthz"), "the broker", process)
        check = json.loads(instruction("HEALTHCHECK").split("CMD", 1)[1])
        assert check[0] == "python"
        asked = [sys.executable, *(word.replace("8765", port) for word in check[1:])]
        yield url, lambda: subprocess.run(asked, env=told, capture_output=True, check=False).returncode
        stop = getattr(signal, instruction("STOPSIGNAL"))
        process.send_signal(stop)
        assert process.wait(timeout=60) in (0, -stop)  # uvicorn ends, and hands the signal on
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def the_page_shows_the_verdict(url: str, key: str) -> None:
    """Publishes, reports, and reads both from the page, as people and machines would."""
    packet, headers = made(0), {"Authorization": f"Bearer {key}"}
    sent = httpx2.put(f"{url}/v1/packets/{packet.digest}", content=packet.content, headers=headers)
    assert sent.status_code == 201, sent.text
    said = httpx2.post(
        f"{url}/v1/packets/{packet.digest}/verdicts", content=receipt(packet.digest), headers=headers
    )
    assert said.status_code == 201, said.text
    page = read_page(
        httpx2.get(f"{url}/packets/{packet.digest}", headers={**headers, "accept": "text/html"}, timeout=60)
    )
    assert "zoo:pico-llama" in page.says and "accepted" in page.says and page.all("svg", class_="graph")


def test_the_image_serves_is_healthy_and_stops_when_asked(tmp_path: Path) -> None:
    made_key = m2kt(
        "broker", "keys", "new", "ann", "--role", "publisher", "--json", M2KT_DATA=str(tmp_path / "data")
    )
    key = json.loads(made_key.stdout)["key"]
    with running(tmp_path / "data") as (url, healthy):
        assert healthy() == 0
        the_page_shows_the_verdict(url, key)


@pytest.mark.postgres
@pytest.mark.registry
def test_what_compose_sets_up_works_together(tmp_path: Path, pg: Postgres, registry: str) -> None:
    environment: dict[str, str] = dict(COMPOSE["services"]["broker"]["environment"])
    database = pg.new_database("compose")
    environment["M2KT_DATABASE"] = re.sub(r"(?<=@)\S+$", database.split("@")[1], environment["M2KT_DATABASE"])
    environment["M2KT_DATABASE"] = re.sub(r"\$\{[^}]*\}", "letters", environment["M2KT_DATABASE"])
    environment["M2KT_STORE"] = environment["M2KT_STORE"].replace("localhost:5000", registry)
    assert environment["M2KT_STORE"] == f"oci://{registry}/m2kt"
    made_key = m2kt(
        "broker",
        "keys",
        "new",
        "ann",
        "--role",
        "publisher",
        "--json",
        M2KT_DATA=str(tmp_path),
        **environment,
    )
    with running(tmp_path, **environment) as (url, healthy):
        assert healthy() == 0
        the_page_shows_the_verdict(url, json.loads(made_key.stdout)["key"])


def test_a_broker_whose_store_is_gone_is_not_healthy(tmp_path: Path) -> None:
    with running(tmp_path) as (_, healthy):
        assert healthy() == 0
        shutil.rmtree(tmp_path / "store")
        assert healthy() != 0


def test_the_image_runs_as_nobody_in_particular_and_without_torch() -> None:
    assert instruction("USER").isdecimal() and int(instruction("USER")) > 0
    needed = {re.split(r"[^\w-]", line, maxsplit=1)[0] for line in requirements(ROOT / "pyproject.toml")}
    assert {"fastapi", "numpy", "jinja2", "matplotlib", "psycopg", "oras"} <= needed and not needed & MODELS
    whole = (ROOT / "deploy" / "Dockerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", whole, re.M) for word in line.split()}
    ignore = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert copied == {line[1:] for line in ignore if line.startswith("!")}
    assert all((ROOT / word).exists() for word in copied)


def test_the_compose_file_holds_together() -> None:
    services: dict[str, Any] = COMPOSE["services"]
    volumes = {v.split(":")[0] for s in services.values() for v in s["volumes"]}
    assert volumes == set(COMPOSE["volumes"])
    broker = services["broker"]
    assert (ROOT / "deploy" / broker["build"]["context"] / broker["build"]["dockerfile"]).is_file()
    for other, needs in broker["depends_on"].items():
        assert needs["condition"] == "service_healthy" and services[other]["healthcheck"]["test"]
    # plain HTTP is spoken to localhost alone, so the broker lives in the registry's network and so does its port
    assert broker["network_mode"] == "service:registry" and "ports" not in broker
    assert services["registry"]["ports"] == ["127.0.0.1:8765:8765"]
    assert broker["read_only"] and image_environment()["MPLCONFIGDIR"].startswith(broker["tmpfs"][0])
    assert int(broker["stop_grace_period"].removesuffix("s")) > 30
