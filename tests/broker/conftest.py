"""Fixtures: a broker within the test process, and PostgreSQL, a registry and an S3 server as processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from m2kt.packet import local_key
from m2kt_broker import Broker, BrokerSettings, create_app
from tests.broker import services
from tests.broker.packets import ApiClient

HERE = Path(__file__).parent
REQUIRED = os.environ.get("M2KT_SERVICES") == "required"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Allow connections to local services only.

    Tests whose service is not installed are skipped; with ``M2KT_SERVICES=required``, as in CI, they fail.
    """
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.allow_hosts(["127.0.0.1"]))
            for marker, (name, package) in services.PROGRAMS.items():
                if item.get_closest_marker(marker) and not services.find_program(name) and not REQUIRED:
                    item.add_marker(pytest.mark.skip(reason=f"{name} is missing: apt-get install {package}"))


@pytest.fixture(scope="session")
def pg() -> Iterator[services.Postgres]:
    with services.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with services.registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An S3 server; the environment refers to it for the whole session."""
    with services.s3(tmp_path_factory.mktemp("s3")) as environment:
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        yield environment
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiClient]:
    """A client of a broker with default settings."""
    with broker_api(BrokerSettings(data=tmp_path / "broker")) as api:
        yield api


def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home with the keys of all tests, and an empty cache: samples are signed once, by the same local key."""
    keys, home = local_key().parent, tmp_path / "home"
    home.mkdir()
    (home / "keys").symlink_to(keys)
    monkeypatch.setenv("M2KT_HOME", str(home))


class broker_api:
    """A broker with these settings within the test process; yields a client with a key of each role."""

    def __init__(self, settings: BrokerSettings) -> None:
        broker = Broker(settings)
        broker.start()
        self._keys = {
            role: broker.create_key(f"a {role}", role, "tests")[1] for role in ("reader", "publisher", "admin")
        }
        broker.close()
        self._client = TestClient(create_app(settings), raise_server_exceptions=False)

    def __enter__(self) -> ApiClient:
        self._client.__enter__()
        return ApiClient(self._client, self._keys)

    def __exit__(self, *error: object) -> None:
        self._client.__exit__(*error)  # type: ignore[arg-type]
