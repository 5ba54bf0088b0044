"""The API's errors for people: the same status, headers and words, as a page."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from starlette.responses import Response

from .answers import rendered, wants_page

Handler = Callable[[Request, Exception], Awaitable[Response]]
CHALLENGE = 'Basic realm="M2KT broker", charset="UTF-8"'
"""Alone, because Chromium asks nobody where a line names Bearer first."""
_SENT_ANEW = ("content-length", "content-type")


def install(app: FastAPI) -> None:
    """Puts a page before each handler that writes problem+json."""
    for kind, handler in list(app.exception_handlers.items()):
        app.add_exception_handler(kind, _with_page(handler))  # type: ignore[arg-type]


def _with_page(handler: Handler) -> Handler:
    async def answer(request: Request, error: Exception) -> Response:
        found = await handler(request, error)
        if not wants_page(request) or "json" not in found.headers.get("content-type", ""):
            return found
        said = json.loads(bytes(found.body))
        status = found.status_code
        title = {404: "Nothing here", 422: "This cannot be shown"}.get(status, said.get("title", "Refused"))
        page = rendered(
            request, "problem.html.j2", status, status_=status, title=title, detail=said["detail"]
        )
        for name, value in found.headers.items():
            if name not in _SENT_ANEW:
                page.headers[name] = value
        if status == 401:
            page.headers["WWW-Authenticate"] = CHALLENGE
        return page

    return answer
