"""What a broker refuses, with the HTTP status that says so. Raised anywhere in this room, written as problem+json."""

from __future__ import annotations

from typing import ClassVar

from m2kt.errors import M2KTError


class Refusal(M2KTError):
    """Base of them all."""

    status: ClassVar[int] = 400
    title: ClassVar[str] = "Bad request"
    headers: ClassVar[dict[str, str]] = {}


class Unauthenticated(Refusal):
    """No key, or none that is known."""

    status, title = 401, "An API key is needed"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer, Basic realm="M2KT broker"'}


class Forbidden(Refusal):
    """The key's role does not reach."""

    status, title = 403, "Not allowed"


class NotFound(Refusal):
    """No such packet."""

    status, title = 404, "Not found"


class Conflict(Refusal):
    """It contradicts what is there."""

    status, title = 409, "Conflict"


class Gone(Refusal):
    """Revoked."""

    status, title = 410, "Revoked"


class TooLarge(Refusal):
    """More bytes than are taken."""

    status, title = 413, "Too large"


class TooSlow(Refusal):
    """It did not come in time."""

    status, title = 408, "Too slow"


class Unacceptable(Refusal):
    """Understood, and not valid."""

    status, title = 422, "Not acceptable"


class Busy(Refusal):
    """Come back."""

    status, title = 429, "Too many uploads at once"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}
