"""FastAPI dependencies: the broker, the caller behind the API key, and the role that a route requires."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.security import HTTPBearer
from sqlalchemy import select

from ._errors import Forbidden, Unauthenticated
from ._records import Role
from ._rights import Caller
from ._service import Broker, key_digest
from ._trusted import Trusted
from .catalogue import KeyRow

RANKS: dict[Role, int] = {"reader": 1, "publisher": 2, "admin": 3}
"""A role may do everything that a role of lower rank may."""
ANONYMOUS = Caller("anonymous", "reader")
BEARER = HTTPBearer(auto_error=False, description="An API key, created by m2kt broker keys new.")

SHA256 = r"^sha256:[0-9a-f]{64}$"
DigestPath = Annotated[str, Path(pattern=SHA256, description="Digest of a packet, as m2kt inspect prints it.")]


# Coroutines, because FastAPI runs plain functions in a thread.
async def _broker(request: Request) -> Broker:
    broker: Broker = request.app.state.broker
    return broker


BrokerDependency = Annotated[Broker, Depends(_broker)]


async def _trusted(broker: BrokerDependency) -> Trusted:
    return broker.trusted


TrustedKeys = Annotated[Trusted, Depends(_trusted)]
"""Owners of signing keys, and whose verdicts count, by the trust policy now."""


def _authenticate(request: Request) -> Caller | None:
    """The caller by ``Authorization: Bearer KEY``, or by HTTP Basic with the key as password, as browsers send it."""
    token = _token(request.headers.get("authorization"))
    if token is None:
        return None
    broker: Broker = request.app.state.broker
    with broker.database.read() as session:
        active = select(KeyRow).where(KeyRow.sha256 == key_digest(token), KeyRow.ended_at.is_(None))
        key = session.scalar(active)
        if key is None:
            raise Unauthenticated("the API key is unknown or was ended; request a new one from an admin")
        return Caller(key.name, key.role)


def _token(header: str | None) -> str | None:
    if not header:
        return None
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Unauthenticated("the Authorization header is invalid: expected Basic base64(user:KEY)") from error
    raise Unauthenticated(f"expected 'Authorization: Bearer KEY', got the scheme {scheme[:20]!r}")


class _RequiredRole:
    """A dependency that requires a role and returns the caller."""

    def __init__(self, role: Role) -> None:
        self.role = role

    def __call__(self, request: Request) -> Caller:
        caller = _authenticate(request)
        if caller is None:
            if self.role == "reader" and request.app.state.broker.settings.public:
                return ANONYMOUS
            raise Unauthenticated("expected an API key: Authorization: Bearer KEY; m2kt broker keys new creates one")
        if RANKS[caller.role] < RANKS[self.role]:
            raise Forbidden(
                f"expected a key with the role {self.role}, got the key {caller.name} with the role {caller.role}"
            )
        request.state.caller = caller.name
        return caller


Reader = Annotated[Caller, Depends(_RequiredRole("reader"))]
Publisher = Annotated[Caller, Depends(_RequiredRole("publisher"))]
