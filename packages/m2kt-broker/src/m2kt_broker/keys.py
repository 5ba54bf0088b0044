"""API keys: who calls, and what that lets them do. A higher role may do all that a lower one may."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from sqlalchemy import select

from .catalogue import KeyRow
from .errors import Forbidden, Unauthenticated
from .records import Role

RANKS: dict[str, int] = {"reader": 1, "publisher": 2, "admin": 3}
PREFIX = "m2kt_"


@dataclass(frozen=True)
class Caller:
    """Who calls."""

    name: str
    role: Role


ANYBODY = Caller("anybody", "reader")


def hashed(token: str) -> str:
    """What is kept of a key. A plain digest is enough: the secret has 256 random bits, there is nothing to guess."""
    return hashlib.sha256(token.encode()).hexdigest()


def _identify(request: Request) -> Caller | None:
    """The caller by ``Authorization: Bearer KEY``, or by HTTP Basic with the key as password, as browsers send it."""
    token = _token(request.headers.get("authorization"))
    if token is None:
        return None
    broker = request.app.state.broker
    with broker.database.read() as session:
        key = session.scalar(select(KeyRow).where(KeyRow.sha256 == hashed(token), KeyRow.ended_at.is_(None)))
        if key is None:
            raise Unauthenticated("this API key is not known here, or was ended; ask an admin for another")
        return Caller(key.name, key.role)


def _token(header: str | None) -> str | None:
    if not header:
        return None
    scheme, _, given = header.partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Unauthenticated(
                "the Authorization header is not valid: expected Basic base64(user:KEY)"
            ) from error
    raise Unauthenticated(f"expected 'Authorization: Bearer KEY', came the scheme {scheme[:20]!r}")


class _Needs:
    """A route's need of a role."""

    def __init__(self, role: Role) -> None:
        self.role = role

    def __call__(self, request: Request) -> Caller:
        caller = _identify(request)
        if caller is None:
            if self.role == "reader" and request.app.state.broker.settings.public:
                return ANYBODY
            raise Unauthenticated(
                "expected an API key: Authorization: Bearer KEY (m2kt broker keys new makes one)"
            )
        if RANKS[caller.role] < RANKS[self.role]:
            raise Forbidden(f"this needs the role {self.role}; the key {caller.name} is a {caller.role}'s")
        request.state.caller = caller.name
        return caller


SCHEME = HTTPBearer(auto_error=False, description="An API key, made by m2kt broker keys new.")

Reader = Annotated[Caller, Depends(_Needs("reader"))]
Publisher = Annotated[Caller, Depends(_Needs("publisher"))]
Admin = Annotated[Caller, Depends(_Needs("admin"))]
