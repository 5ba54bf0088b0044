"""What is refused before any route sees a request: foreign methods, hosts and pages; and idle connections.

A browser sends the password that it remembers with every request to the broker, also with those that another site's
page starts. So a request that changes something and comes from a page elsewhere is refused.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ._errors import problem

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods that a log and a metric may name; any other is refused."""
READS = frozenset({"GET", "HEAD", "OPTIONS"})
HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253})|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
"""What a ``Host`` header may be: pages print it in a shell command."""


class LimitsMiddleware:
    """Refuses a request by its first line and headers alone; its body is not read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None if scope["type"] != "http" else _refusal(Request(scope))
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, title, detail = refusal
        await problem(status, title, detail, {"Connection": "close"})(scope, receive, send)


def _refusal(request: Request) -> tuple[int, str, str] | None:
    """Status, title and detail of a refusal; None for a request that may go on."""
    if request.method not in METHODS:
        return 501, "Unknown method", f"expected one of {', '.join(sorted(METHODS))}, got another method"
    host = request.headers.get("host")
    if host is not None and not HOST.fullmatch(host):  # HTTP/1.0 knows requests without one
        return 400, "Invalid host", "expected a Host header with a name or address, and perhaps a port"
    if request.method not in READS:
        site, origin = request.headers.get("sec-fetch-site", "none"), request.headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc.casefold() != (host or "").casefold()
        if foreign or site in ("cross-site", "same-site"):
            return (
                403,
                "Foreign page",
                "expected a request of a client or of this broker, got one of another site",
            )
    return None


class PunctualProtocol(H11Protocol):
    """HTTP/1.1 whose clients must finish a request's headers, and take a part of an answer, within a time.

    Attributes:
        header_seconds, write_seconds: set on a subclass by :func:`protocol`.
    """

    header_seconds: float
    write_seconds: float
    _deadline: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own, too
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._deadline is None:  # a second request of the connection has begun
            self._await_headers()

    def on_response_complete(self) -> None:
        self._stop()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
        super().resume_writing()

    def _await_headers(self) -> None:
        self._deadline = self.loop.call_later(self.header_seconds, self.transport.abort)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def protocol(header_seconds: float, write_seconds: float) -> type[asyncio.Protocol]:
    """The protocol class with its times, as uvicorn takes it."""
    times: dict[str, Any] = {"header_seconds": header_seconds, "write_seconds": write_seconds}
    return type("BrokerProtocol", (PunctualProtocol,), times)
