"""Errors with an HTTP status, and their form as problem+json (RFC 9457)."""

from __future__ import annotations

from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from m2kt.errors import BrokerError, M2KTError, StorageError, TrustError

DISK_FULL = ("No space left", "quota", "disk is full")
"""Phrases by which a message of the operating system, PostgreSQL or SQLite reports a full disk."""
MEDIA_TYPE = "application/problem+json"


class RequestError(M2KTError):
    """Base class of errors that a request causes; subclasses set the HTTP status."""

    status: ClassVar[int] = 400
    title: ClassVar[str] = "Bad request"
    headers: ClassVar[dict[str, str]] = {}


class Unauthenticated(RequestError):
    """The request has no API key, or an unknown one."""

    status, title = 401, "API key required"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer, Basic realm="M2KT broker"'}


class Forbidden(RequestError):
    """The role of the API key does not permit the request."""

    status, title = 403, "Forbidden"


class QuotaExceeded(RequestError):
    """The API key has stored as much as one key may."""

    status, title = 403, "Quota exceeded"


class NotFound(RequestError):
    """The catalogue has no such entry."""

    status, title = 404, "Not found"


class UploadTimeout(RequestError):
    """The upload exceeded its maximum duration."""

    status, title = 408, "Upload timeout"


class Conflict(RequestError):
    """The request contradicts the catalogue."""

    status, title = 409, "Conflict"


class Gone(RequestError):
    """The packet is revoked."""

    status, title = 410, "Revoked"


class TooLarge(RequestError):
    """The request body exceeds its maximum size."""

    status, title = 413, "Too large"


class UnexpectedType(RequestError):
    """The body's media type is another than the route takes."""

    status, title = 415, "Unexpected media type"


class Unprocessable(RequestError):
    """The request is well-formed but invalid."""

    status, title = 422, "Unprocessable"


class TooManyUploads(RequestError):
    """The maximum number of concurrent uploads is reached."""

    status, title = 429, "Too many concurrent uploads"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class Problem(BaseModel):
    """The body of every error response."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="What was expected, what was received, and what to do.")


def problem(status: int, title: str, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error response."""
    body = Problem(title=title, status=status, detail=detail).model_dump()
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"description": "Error", "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
}
"""The OpenAPI description of errors, shared by all routes."""


def install(app: FastAPI) -> None:
    """Register the handlers that turn exceptions into problem+json."""

    @app.exception_handler(M2KTError)
    async def handle_m2kt_error(request: Request, error: M2KTError) -> JSONResponse:
        if isinstance(error, RequestError):
            return problem(error.status, error.title, str(error), error.headers)
        if isinstance(error, TrustError):
            return problem(403, "Not trusted", str(error))
        if isinstance(error, StorageError | BrokerError):
            full = any(phrase in str(error) for phrase in DISK_FULL)
            status, title = (507, "Insufficient storage") if full else (503, "Storage unavailable")
            return problem(status, title, str(error), {"Retry-After": "5"})
        return problem(422, Unprocessable.title, str(error))

    @app.exception_handler(HTTPException)
    async def handle_http_error(request: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, "Request refused", str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def handle_invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
        fields = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        return problem(422, Unprocessable.title, fields)
