"""Tokens of OCI registries: one for each set of actions, renewed before it expires; the login goes to its own place.

A registry answers 401 and names a *realm*, which gives tokens for the login of docker's configuration. Whoever runs the
registry chooses that name, so the login is sent to a realm of the same host, its parent domain or Docker Hub's pair
alone; others must be named in ``M2KT_OCI_REALMS``. https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from m2kt.errors import BrokerError, printable

if TYPE_CHECKING:
    import requests

REALMS = "M2KT_OCI_REALMS"
"""Environment variable: further hosts, separated by commas, that may see the login of a registry."""
OF_DOCKER_HUB = {"docker.io", "index.docker.io", "registry-1.docker.io", "auth.docker.io"}
DEFAULT_LIFE = 60.0
"""Seconds that a token lives where the realm says nothing."""
MARGIN = 0.8
"""The part of its life for which a token is used."""
MAX_REPLY = 4 << 20
"""Bytes of a token's or a manifest's reply."""
WRITES = ("POST", "PUT", "PATCH", "DELETE")
_FIELD = re.compile(r'([a-z]+)="([^"]*)"')


class Session(Protocol):
    """What is used of ``requests.Session``."""

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        allow_redirects: bool = True,
    ) -> requests.Response: ...


@dataclass(frozen=True)
class Login:
    """The login of one registry: a password in the form of HTTP Basic, or a token that stands for it."""

    basic: str | None = None
    identity: str | None = None


@dataclass(frozen=True)
class _Token:
    value: str
    until: float


class Tokens:
    """The tokens for one repository.

    Args:
        host: of the registry, with its port.
        name: of the repository.
        is_local: the registry is on this machine, so that its realm may be there too, without TLS.
    """

    def __init__(self, session: Session, host: str, name: str, login: Login, is_local: bool) -> None:
        self._session, self._host, self._name = session, host, name
        self._login, self._is_local = login, is_local
        self._tokens: dict[str, _Token] = {}
        self._is_basic = False

    def header(self, method: str, url: str) -> dict[str, str]:
        """The header of a request. None of it goes to another host, where an upload's address may lead."""
        if not self._is_own(url):
            return {}
        if self._is_basic and self._login.basic:
            return {"Authorization": f"Basic {self._login.basic}"}
        token = self._tokens.get(_actions(method))
        return {} if token is None or time.monotonic() > token.until else {"Authorization": f"Bearer {token.value}"}

    def renew(self, method: str, url: str, refusal: requests.Response) -> bool:
        """A new token for a refused request; False where the refusal asks for none, so that it stands."""
        challenge = refusal.headers.get("www-authenticate", "")
        scheme, _, rest = challenge.partition(" ")
        if not self._is_own(url):
            return False
        if scheme.casefold() == "basic" and self._login.basic and not self._is_basic:
            self._is_basic = True
            return True
        fields = dict(_FIELD.findall(rest))
        if scheme.casefold() != "bearer" or "realm" not in fields:
            return False
        self._tokens[_actions(method)] = self._request(fields, _actions(method))
        return True

    def _request(self, fields: dict[str, str], actions: str) -> _Token:
        realm, began = fields["realm"], time.monotonic()
        query = {"scope": f"repository:{self._name}:{actions}"}
        if "service" in fields:
            query["service"] = fields["service"]
        login = self._login if self._may_see_login(realm) else Login()
        if login.identity is not None:
            form = {**query, "grant_type": "refresh_token", "client_id": "m2kt", "refresh_token": login.identity}
            answer = self._session.request("POST", realm, data=form, stream=True, allow_redirects=False)
        else:
            headers = {"Authorization": f"Basic {login.basic}"} if login.basic else {}
            answer = self._session.request(
                "GET", realm, params=query, headers=headers, stream=True, allow_redirects=False
            )
        withheld = login != self._login
        try:
            read_reply(answer)
            reply = answer.json()
            value = reply.get("token") or reply["access_token"]
            life = float(reply.get("expires_in") or DEFAULT_LIFE)
            if answer.status_code != 200 or not re.fullmatch(r"[!-~]{1,65536}", value):
                raise ValueError("no token")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            host = printable(urlsplit(realm).netloc, 100)
            advice = f"; it did not get your login: set {REALMS}={host} if it may" if withheld else "; log in again"
            raise BrokerError(
                f"expected a token for {self._host}/{self._name} from {host}, got status {answer.status_code}{advice}",
                answer.status_code,
            ) from error
        return _Token(value, began + MARGIN * max(0.0, life))

    def _is_own(self, url: str) -> bool:
        parsed = urlsplit(url)
        is_same = parsed.netloc == self._host or {parsed.netloc, self._host} <= OF_DOCKER_HUB
        return is_same and (parsed.scheme == "https" or self._is_local)

    def _may_see_login(self, realm: str) -> bool:
        own, asked = urlsplit(f"//{self._host}"), urlsplit(realm)
        host, other = own.hostname or "", asked.hostname or ""
        if asked.scheme != "https" and not (self._is_local and other == host):
            return False
        named = [item.strip() for item in os.environ.get(REALMS, "").split(",")]
        is_parent = host.endswith(f".{other}") and "." in other
        return other == host or is_parent or {host, other} <= OF_DOCKER_HUB or asked.netloc in named


def read_reply(answer: requests.Response, limit: int = MAX_REPLY) -> None:
    """Read the body of a streamed answer, for its ``content``. Raises BrokerError above the limit."""
    body = bytearray()
    for piece in answer.iter_content(1 << 16):
        body += piece
        if len(body) > limit:
            answer.close()
            raise BrokerError(f"expected at most {limit:,} bytes from {urlsplit(answer.url).netloc}, got more")
    answer._content = bytes(body)


def _actions(method: str) -> str:
    return "pull,push" if method in WRITES else "pull"
