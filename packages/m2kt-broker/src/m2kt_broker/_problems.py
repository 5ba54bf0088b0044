"""Errors as problem+json (RFC 9457): what was expected, what came, what to do, in ``detail``."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from m2kt.errors import BrokerError, M2KTError, StorageError, TrustError

from .errors import Refusal

FULL = ("No space left", "quota", "disk is full")
MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What every error is answered with."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="What was expected, what came, what to do.")


def problem(status: int, title: str, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """One error."""
    body = Problem(title=title, status=status, detail=detail).model_dump()
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"description": "Refused", "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
}
"""For every route's description."""


def install(app: FastAPI) -> None:
    """Answers errors this way."""

    @app.exception_handler(M2KTError)
    async def _ours(request: Request, error: M2KTError) -> JSONResponse:
        if isinstance(error, Refusal):
            return problem(error.status, error.title, str(error), error.headers)
        if isinstance(error, TrustError):
            return problem(403, "Not trusted", str(error))
        if isinstance(error, StorageError | BrokerError):
            full = any(word in str(error) for word in FULL)
            status, title = (507, "No space left") if full else (503, "Storage does not answer")
            return problem(status, title, str(error), {"Retry-After": "5"})
        return problem(422, "Not acceptable", str(error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        return problem(error.status_code, "Refused", str(error.detail), headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        fields = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        return problem(422, "Not acceptable", fields)
