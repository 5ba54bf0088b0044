"""Registries with tokens, as ghcr.io, Docker Hub, ACR and GitLab have them; and hostile ones."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from m2kt.errors import BrokerError
from m2kt.remote import PACKET_ARTEFACT, Repository
from m2kt.remote._oci_auth import Login, Tokens
from m2kt_broker import digest_of
from tests.broker.packets import sample

LOGIN = base64.b64encode(b"u:secret").decode()
CONTENT = sample(0).content


@dataclass
class Manner:
    """How a registry hands out tokens."""

    life: float = 60.0
    says_life: bool = True
    denied: int = 401
    """Status for a token that lacks a right: 403 at ghcr.io."""
    field: str = "token"
    scope_in_challenge: bool = True
    realm: str | None = None
    scheme: str = "Bearer"
    identity: bool = False


@dataclass
class Registry:
    """A registry with token authentication on loopback, and what it saw."""

    manner: Manner
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Authorization and path of every request."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    refused: int = 0

    def __post_init__(self) -> None:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                registry.answer(self)

            do_HEAD = do_POST = do_PUT = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.host = f"127.0.0.1:{self.server.server_port}"

    def answer(self, h: BaseHTTPRequestHandler) -> None:
        path, body = urllib.parse.urlsplit(h.path), h.rfile.read(int(h.headers.get("Content-Length") or 0))
        given = h.headers.get("Authorization") or ""
        self.seen.append((given, path.path))
        if path.path == "/token":
            self.send(h, *self.token(path.query or body.decode(), given))
            return
        status, content, headers = self.serve(h, path.path, body, given)
        self.send(h, status, content, **headers)

    def send(self, h: BaseHTTPRequestHandler, status: int, content: bytes = b"", **headers: str) -> None:
        h.send_response(status)
        for name, value in headers.items():
            h.send_header(name.replace("_", "-"), value)
        h.send_header("Content-Length", str(len(content)))
        h.end_headers()
        if h.command != "HEAD":
            h.wfile.write(content)

    def token(self, query: str, given: str) -> tuple[int, bytes]:
        fields = urllib.parse.parse_qs(query)
        is_known = fields.get("refresh_token") == ["idtoken"] if self.manner.identity else given == f"Basic {LOGIN}"
        actions = ",".join(scope.rsplit(":", 1)[1] for scope in fields.get("scope", []))
        if not is_known:  # anonymous callers may read
            actions = actions.replace(",push", "")
        life = {"expires_in": int(self.manner.life)} if self.manner.says_life else {}
        return 200, json.dumps({self.manner.field: f"{actions}|{time.monotonic()}", **life}).encode()

    def serve(self, h: BaseHTTPRequestHandler, path: str, body: bytes, given: str) -> tuple[int, bytes, dict[str, str]]:
        need = "pull,push" if h.command in ("POST", "PUT") else "pull"
        actions, _, born = given.removeprefix("Bearer ").partition("|")
        is_alive = bool(born) and time.monotonic() - float(born) < self.manner.life
        may = is_alive and set(need.split(",")) <= set(actions.split(","))
        if self.manner.scheme == "Basic":
            is_alive = may = given == f"Basic {LOGIN}"
        if not may:
            self.refused += 1
            realm = self.manner.realm or f"http://{self.host}/token"
            scope = f',scope="repository:a/b:{need}"' if self.manner.scope_in_challenge else ""
            challenge = f'{self.manner.scheme} realm="{realm}",service="r"{scope}'
            return self.manner.denied if is_alive else 401, b"{}", {"WWW_Authenticate": challenge}
        match = re.match(r"/v2/a/b/(manifests|blobs)/(.*)", path)
        if match is None:
            return 200, b"{}", {}
        kind, name = match.groups()
        if h.command == "POST":
            return 202, b"", {"Location": "/v2/a/b/blobs/uploads/1"}
        if h.command == "PUT":
            store, key = (self.manifests, name) if kind == "manifests" else (self.blobs, digest_of(body))
            store[key] = body
            return 201, b"", {}
        found = (self.manifests if kind == "manifests" else self.blobs).get(name)
        return (404, b"", {}) if found is None else (200, found, {})


@pytest.fixture
def registry(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    registry = Registry(getattr(request, "param", Manner()))
    (tmp_path / ".docker").mkdir()
    entry = {"auth": LOGIN, **({"identitytoken": "idtoken"} if registry.manner.identity else {})}
    (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {registry.host: entry}}))
    monkeypatch.setenv("HOME", str(tmp_path))
    yield registry
    registry.server.shutdown()
    registry.server.server_close()


MANNERS = {
    "distribution": Manner(),
    "ghcr.io": Manner(denied=403),
    "Docker Hub": Manner(says_life=False),
    "ACR": Manner(field="access_token", identity=True),
    "GitLab": Manner(life=1.0, scope_in_challenge=False),
    "Basic": Manner(scheme="Basic"),
}


@pytest.mark.parametrize("registry", MANNERS.values(), ids=MANNERS, indirect=True)
def test_pushing_and_pulling_outlive_a_token(registry: Registry) -> None:
    repository = Repository(f"{registry.host}/a/b")
    assert repository.layer("v1") is None  # gets a token that may only pull
    repository.push("v1", CONTENT, digest_of(CONTENT), PACKET_ARTEFACT)
    layer = repository.layer("v1")
    assert layer is not None and b"".join(repository.read(layer.digest)) == CONTENT
    if registry.manner.life < 2:
        time.sleep(registry.manner.life + 0.1)
    assert repository.layer("v1") == layer
    repository.push("v2", b"more", digest_of(b"more"), PACKET_ARTEFACT)
    assert set(registry.manifests) == {"v1", "v2"}


def test_a_token_is_used_again(registry: Registry) -> None:
    repository = Repository(f"{registry.host}/a/b")
    for _ in range(5):
        repository.layer("v1")
    assert registry.refused == 1 and sum(path == "/token" for _, path in registry.seen) == 1


def test_a_revoked_token_is_renewed_once(registry: Registry) -> None:
    repository = Repository(f"{registry.host}/a/b")
    registry.manner.life = 0.0  # every token is refused, whatever its life is said to be
    with pytest.raises(BrokerError, match="401"):
        repository.layer("v1")
    assert registry.refused == 2


REALMS = {
    "other-port": (Manner(realm="http://127.0.0.1:{port}/token"), True),
    "other-host": (Manner(realm="http://localhost:{port}/token"), False),
}


@pytest.mark.parametrize("name", REALMS)
def test_the_login_goes_to_the_registrys_own_realm_alone(
    name: str, tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    manner, is_own = REALMS[name]
    thief = Registry(Manner())
    try:
        assert manner.realm is not None
        registry.manner.realm = manner.realm.format(port=thief.server.server_port)
        registry.manner.life = 1000
        repository = Repository(f"{registry.host}/a/b")
        assert repository.layer("v1") is None  # an anonymous token may read
        assert any(LOGIN in given for given, _ in thief.seen) is is_own
        if not is_own:
            with pytest.raises(BrokerError):
                repository.push("v1", CONTENT, digest_of(CONTENT), PACKET_ARTEFACT)
            assert not any(LOGIN in given for given, _ in thief.seen)
    finally:
        thief.server.shutdown()
        thief.server.server_close()


@pytest.mark.parametrize(
    ("host", "realm", "may"),
    [
        ("ghcr.io", "https://ghcr.io/token", True),
        ("registry-1.docker.io", "https://auth.docker.io/token", True),
        ("me.azurecr.io", "https://me.azurecr.io/oauth2/token", True),
        ("me.azurecr.io", "https://you.azurecr.io/oauth2/token", False),
        ("registry.gitlab.com", "https://gitlab.com/jwt/auth", True),
        ("gitlab.example.com:5050", "https://gitlab.example.com/jwt/auth", True),
        ("registry.example.com", "https://gitlab.example.com/jwt/auth", False),
        ("registry.example.com", "https://com/token", False),
        ("evil.com", "https://ghcr.io.evil.com/token", False),
        ("ghcr.io", "https://evil.com/?ghcr.io", False),
        ("ghcr.io", "https://ghcr.io@evil.com/token", False),
        ("ghcr.io", "http://ghcr.io/token", False),
        ("ghcr.io", "file:///etc/passwd", False),
        ("ghcr.io", "", False),
    ],
)
def test_which_realms_may_see_the_login(host: str, realm: str, may: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    tokens = Tokens(requests.Session(), host, "a/b", Login("x"), is_local=False)
    assert tokens._may_see_login(realm) is may
    monkeypatch.setenv("M2KT_OCI_REALMS", "x.example, gitlab.example.com")
    assert tokens._may_see_login(realm) is (may or realm == "https://gitlab.example.com/jwt/auth")


def test_no_token_goes_to_another_host(registry: Registry) -> None:
    repository = Repository(f"{registry.host}/a/b")
    repository.layer("v1")
    tokens = repository._registry().tokens
    assert tokens.header("GET", f"http://{registry.host}/v2/")
    for url in ("http://127.0.0.1:1/v2/", f"http://{registry.host}.evil/v2/", f"http://x@{registry.host}/"):
        assert tokens.header("GET", url) == {}


def test_replies_are_bounded(registry: Registry) -> None:
    repository = Repository(f"{registry.host}/a/b")
    registry.manifests["v1"] = b" " * (5 << 20)
    with pytest.raises(BrokerError, match="at most"):
        repository.layer("v1")
    for manifest in (
        b"{}",
        b"[]",
        b"\xff",
        b'{"layers": [{"digest": "../x", "size": 1, "mediaType": "y"}]}',
        b"[" * 99999,
    ):
        registry.manifests["v1"] = manifest
        with pytest.raises(BrokerError, match="a manifest of one file"):
            repository.layer("v1")
    pinned = f"sha256:{hashlib.sha256(b'other').hexdigest()}"
    registry.manifests[pinned] = b"{}"
    with pytest.raises(BrokerError, match="another digest"):
        repository.layer(pinned)
