"""Access rights: every role at every route."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from m2kt_broker import BrokerSettings
from tests.broker.conftest import broker_api
from tests.broker.packets import ApiClient, notice, receipt, sample

PACKET, VICTIM = sample(0), sample(1)
FRESH = {role: sample(10 + i) for i, role in enumerate((None, "reader", "publisher", "admin"))}
AT = f"/v1/packets/{PACKET.digest}"
NEAR = {"space": "sha256:" + "0" * 64 + "/2", "vector": [1.0, 0.0, 0.0, 0.0]}

# route, path, request, and the status for no key, a reader, a publisher and an admin
MATRIX = [
    ("GET /healthz", "/healthz", {}, (200, 200, 200, 200)),
    ("GET /readyz", "/readyz", {}, (200, 200, 200, 200)),
    ("GET /metrics", "/metrics", {}, (200, 200, 200, 200)),
    ("GET /v1/packets", "/v1/packets", {}, (401, 200, 200, 200)),
    ("PUT /v1/packets/{digest}", None, {}, (401, 403, 201, 201)),
    ("GET /v1/packets/{digest}", AT, {}, (401, 200, 200, 200)),
    ("HEAD /v1/packets/{digest}", AT, {}, (401, 200, 200, 200)),
    ("GET /v1/packets/{digest}/record", f"{AT}/record", {}, (401, 200, 200, 200)),
    (
        "PUT /v1/packets/{digest}/state",
        f"/v1/packets/{VICTIM.digest}/state",
        {},
        (401, 403, 200, 200),
    ),
    ("GET /v1/packets/{digest}/verdicts", f"{AT}/verdicts", {}, (401, 200, 200, 200)),
    ("POST /v1/packets/{digest}/verdicts", f"{AT}/verdicts", {}, (401, 403, 201, 201)),
    ("GET /v1/statements/{statement}", None, {}, (401, 200, 200, 200)),
    ("GET /v1/search", "/v1/search?q=a", {}, (401, 200, 200, 200)),
    ("POST /v1/search/vectors", "/v1/search/vectors", {"json": NEAR}, (401, 200, 200, 200)),
    ("GET /v1/lineage/{digest}", f"/v1/lineage/{PACKET.digest}", {}, (401, 200, 200, 200)),
    ("GET /", "/", {}, (401, 200, 200, 200)),
    ("GET /packets/{digest}", f"/packets/{PACKET.digest}", {}, (401, 200, 200, 200)),
    ("GET /statements/{statement}", None, {}, (401, 200, 200, 200)),
    ("GET /assets/{name}", "/assets/mark.svg", {}, (200, 200, 200, 200)),
]
# a HEAD request needs the same role as the page
MATRIX += [
    (f"HEAD {route.split()[1]}", *cells)
    for route, *cells in MATRIX
    if route.startswith("GET ") and route != "GET /v1/packets/{digest}"
]
ROLES = (None, "reader", "publisher", "admin")
CELLS = [
    pytest.param(route, path, request, role, status, id=f"{route.replace('/', '|')}-{role or 'anonymous'}")
    for route, path, request, statuses in MATRIX
    for role, status in zip(ROLES, statuses, strict=True)
]


@pytest.fixture(scope="module")
def populated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiClient]:
    """A broker with two packets; no test changes what another one reads."""
    with broker_api(BrokerSettings(data=tmp_path_factory.mktemp("access") / "broker")) as api:
        api.publish(PACKET)
        api.publish(VICTIM)
        yield api


@pytest.mark.parametrize(("route", "path", "request_", "role", "status"), CELLS)
def test_cell(
    populated: ApiClient,
    route: str,
    path: str | None,
    request_: dict[str, Any],
    role: str | None,
    status: int,
) -> None:
    api = populated
    if route == "PUT /v1/packets/{digest}":
        path, request_ = f"/v1/packets/{FRESH[role].digest}", {"content": FRESH[role].content}
    elif route == "PUT /v1/packets/{digest}/state":
        request_ = notice(VICTIM.digest, "yanked")
    elif route == "POST /v1/packets/{digest}/verdicts":
        request_ = {"content": receipt(PACKET.digest, note=str(role))}
    elif path is None:
        statement = receipt(PACKET.digest, "rejected", note=f"read by {role}")
        name = api("POST", f"{AT}/verdicts", content=statement).json()["statement"]
        path = route.split()[1].format(statement=name)
    assert path is not None
    answer = api(route.split()[0], path, role, **request_)
    assert answer.status_code == status, answer.text
    if status == 401:
        assert "Bearer" in answer.headers["www-authenticate"]
    if status in (401, 403) and route.split()[0] != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json" and answer.json()["status"] == status


def test_matrix_covers_every_route(api: ApiClient) -> None:
    routes = {
        f"{method} {context.path}"
        for context in iter_route_contexts(api.client.app.routes)  # type: ignore[attr-defined]
        if isinstance(context.original_route, APIRoute)
        for method in context.methods or ()
    }
    assert {route for route, *_ in MATRIX} == routes


def test_public_broker_allows_anonymous_reads_and_no_writes(tmp_path: Path) -> None:
    with broker_api(BrokerSettings(data=tmp_path / "broker", public=True)) as api:
        assert api.publish(PACKET).status_code == 201
        assert api("GET", AT, None).status_code == 200
        assert api("PUT", f"/v1/packets/{VICTIM.digest}", None, content=VICTIM.content).status_code == 401
        assert api("PUT", f"{AT}/state", None, **notice(PACKET.digest, "yanked")).status_code == 401
        assert api("GET", AT, None, headers={"Authorization": "Bearer m2kt_x_y"}).status_code == 401


def test_basic_authentication_takes_the_key_as_password(api: ApiClient) -> None:
    api.publish(PACKET)

    def status(value: str) -> int:
        return api("GET", AT, None, headers={"Authorization": value}).status_code

    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    assert status(basic(f"me:{api.keys['reader']}")) == 200
    assert status(basic("me:wrong")) == status(basic("me")) == status("Basic !!") == status("Digest x") == 401


def test_ended_key_is_rejected(api: ApiClient) -> None:
    api.publish(PACKET)
    broker = api.client.app.state.broker  # type: ignore[attr-defined]
    key, token = broker.create_key("temporary", "reader", "tests")
    headers = {"Authorization": f"Bearer {token}"}
    assert api("GET", AT, None, headers=headers).status_code == 200
    broker.end_key(key.id, "tests")
    assert api("GET", AT, None, headers=headers).status_code == 401
