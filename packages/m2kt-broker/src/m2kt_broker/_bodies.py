"""JSON bodies that are read after the caller's role is known, within a size and a time."""

from __future__ import annotations

import json
from typing import Any, Generic, TypeVar

import anyio
from fastapi import Request
from pydantic import BaseModel, ValidationError

from m2kt.errors import explain

from ._access import Reader
from ._errors import UnexpectedType, Unprocessable, UploadTimeout
from ._records import is_plain
from ._uploads import read_body

JSON = "application/json"
Model = TypeVar("Model", bound=BaseModel)


def require_type(request: Request, *allowed: str) -> None:
    """Check the Content-Type: a page of another site may send texts and forms unasked, and none of these types."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().casefold()
    if given not in allowed:
        shown = given[:40] if is_plain(given) else "another one"
        raise UnexpectedType(f"expected the Content-Type {' or '.join(allowed)}, got {shown or 'none'}")


async def read_within(request: Request, limit: int, seconds: float) -> bytes:
    """A body of at most ``limit`` bytes that arrives within ``seconds``. Raises TooLarge or UploadTimeout."""
    with anyio.move_on_after(seconds):
        return await read_body(request, limit)
    raise UploadTimeout(f"the body took more than {seconds:g} s, the maximum")


class _JsonBody(Generic[Model]):
    def __init__(self, model: type[Model], limit: int) -> None:
        self._model, self._limit = model, limit

    async def parse(self, request: Request) -> Model:
        require_type(request, JSON)
        body = await read_within(request, self._limit, request.app.state.broker.settings.body_seconds)
        try:
            return self._model.model_validate_json(body)
        except ValidationError as error:
            raise Unprocessable(explain(error)) from error


class ReaderBody(_JsonBody[Model]):
    """A dependency: a body of a caller that may read."""

    async def __call__(self, request: Request, _: Reader) -> Model:
        return await self.parse(request)


def described(model: type[BaseModel]) -> dict[str, Any]:
    """The body's entry in the OpenAPI description."""
    schema = model.model_json_schema()
    assert "$defs" not in schema, json.dumps(schema["$defs"])  # a reference would point into another document
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}
