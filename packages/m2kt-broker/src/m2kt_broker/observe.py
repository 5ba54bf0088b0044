"""Every request leaves one line of JSON on stderr and its figures; what nobody foresaw leaves a trace there as well."""

from __future__ import annotations

import logging
import re
import sys
import time
import uuid

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import Processor

from ._problems import problem
from .metrics import Metrics

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
log = structlog.get_logger("m2kt_broker")


def configure_logs() -> None:
    """JSON lines on stderr, of ours and of the libraries'. Called by whoever owns the process."""
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


class Observed:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, started = Request(scope), time.perf_counter()
        given = request.headers.get("x-request-id", "")
        identity = given if _ID.fullmatch(given) else uuid.uuid4().hex
        status, came, went = 0, 0, 0

        async def receiving() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            return message

        async def sending(message: Message) -> None:
            nonlocal status, went
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", identity.encode())]
            went += len(message.get("body", b""))
            await send(message)

        self._metrics.under_way.inc()
        with structlog.contextvars.bound_contextvars(request=identity):
            try:
                await self._app(scope, receiving, sending)
            except Exception:
                log.exception("unforeseen", method=request.method, path=request.url.path)
                if status:  # the answer has begun: all that can be done is to break it off
                    raise
                answer = problem(500, "A bug of ours", f"please report it, with the request id {identity}")
                await answer(scope, receiving, sending)
            finally:
                self._metrics.under_way.dec()
                seconds = time.perf_counter() - started
                self._note(request, status, seconds, came, went)

    def _note(self, request: Request, status: int, seconds: float, came: int, went: int) -> None:
        route = getattr(request.scope.get("route"), "path", "none")
        self._metrics.requests.labels(request.method, route, str(status)).inc()
        self._metrics.seconds.labels(request.method, route).observe(seconds)
        self._metrics.received.inc(came)
        self._metrics.sent.inc(went)
        log.info(
            "request",
            method=request.method,
            path=request.url.path,
            route=route,
            status=status,
            seconds=round(seconds, 4),
            received=came,
            sent=went,
            caller=request.scope.get("state", {}).get("caller"),
        )
