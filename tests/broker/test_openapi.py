"""Responses conform to the OpenAPI description for generated requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from m2kt.remote import BrokerClient
from m2kt_broker import BrokerSettings, create_app
from tests.broker.packets import receipt, sample
from tests.broker.services import Server

PACKET_TYPE = "application/vnd.m2kt.packet.v1+zip"
SCHEMA = schemathesis.openapi.from_dict(create_app(BrokerSettings(data=Path("unused"))).openapi())
schemathesis.openapi.media_type(PACKET_TYPE, st.binary(max_size=2000))
OPERATIONS = [operation.ok() for operation in SCHEMA.get_all_operations()]
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@schemathesis.serializer(PACKET_TYPE)
def _serialise(_: object, value: object) -> bytes:
    """Serialise a generated body: bytes unchanged, anything else as text."""
    raw = getattr(value, "data", value)  # schemathesis wraps binary data
    return raw if isinstance(raw, bytes) else str(raw).encode()


@pytest.fixture(
    scope="module",
    params=["sqlite", pytest.param("postgres", marks=[pytest.mark.slow, pytest.mark.postgres])],
)
def populated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A broker process with three packets and a statement, and an admin's key."""
    options: tuple[str, ...] = ()
    if request.param == "postgres":
        options = ("--database", request.getfixturevalue("pg").new_database("openapi"))
    server = Server(tmp_path_factory.mktemp("openapi") / "broker", options)
    key = server.key("root", "admin")
    server.start()
    with BrokerClient(server.url, key) as client:
        for seed in range(3):
            client.publish(sample(seed).digest, sample(seed).at(server.data / "packet.m2kp"))
        client.add_statement(sample(0).digest, receipt(sample(0).digest))
    yield server, key
    server.kill()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_route_conforms_to_its_description(operation: schemathesis.APIOperation, populated: tuple[Server, str]) -> None:  # type: ignore[type-arg,name-defined]
    server, key = populated

    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(case=operation.as_strategy())
    def check(case: schemathesis.Case) -> None:
        response = case.call(base_url=server.url, headers={"Authorization": f"Bearer {key}"})
        case.validate_response(response, checks=CHECKS)

    check()


def test_description_is_complete(populated: tuple[Server, str]) -> None:
    description = httpx2.get(f"{populated[0].url}/openapi.json").json()
    assert description == SCHEMA.raw_schema
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            assert operation.get("summary"), (method, path)
            assert "default" in operation["responses"], (method, path)
