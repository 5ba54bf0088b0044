"""Logs and metrics of requests: one JSON line on stderr for each request, with a traceback for unexpected errors."""

from __future__ import annotations

import logging
import re
import sys
import time
import uuid

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import Processor

from ._errors import problem
from ._limits import METHODS
from ._metrics import Metrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CLIENT_LEFT = 499
"""Status in logs and metrics of a request whose client left before it was complete; nobody receives it."""
log = structlog.get_logger("m2kt_broker")


def configure_logs() -> None:
    """Write the logs of the broker and of its libraries as JSON lines on stderr. Only :func:`serve` calls it."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        foreign_pre_chain=shared,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)


class ObservabilityMiddleware:
    """Outermost ASGI middleware: request id, metrics, log line, and status 500 for unexpected errors."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, start = Request(scope), time.perf_counter()
        client_id = request.headers.get("x-request-id", "")
        request_id = client_id if _REQUEST_ID.fullmatch(client_id) else uuid.uuid4().hex
        status, received, sent = 0, 0, 0

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def counting_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            sent += len(message.get("body", b""))
            await send(message)

        self._metrics.in_progress.inc()
        with structlog.contextvars.bound_contextvars(request=request_id):
            try:
                await self._app(scope, counting_receive, counting_send)
            except ClientDisconnect:
                status = status or CLIENT_LEFT
            except Exception:
                log.exception("unexpected error", method=request.method, path=request.url.path)
                if status:  # the response has begun, so the connection must be closed
                    raise
                detail = f"an unexpected error occurred; report it with the request id {request_id}"
                await problem(500, "Internal error", detail)(scope, counting_receive, counting_send)
            finally:
                self._metrics.in_progress.dec()
                self._report(request, status, time.perf_counter() - start, received, sent)

    def _report(self, request: Request, status: int, seconds: float, received: int, sent: int) -> None:
        route = getattr(request.scope.get("route"), "path", "none")
        method = request.method if request.method in METHODS else "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.seconds.labels(method, route).observe(seconds)
        self._metrics.received.inc(received)
        self._metrics.sent.inc(sent)
        log.info(
            "request",
            method=method,
            path=request.url.path,
            route=route,
            status=status,
            seconds=round(seconds, 4),
            received=received,
            sent=sent,
            caller=request.scope.get("state", {}).get("caller"),
        )
