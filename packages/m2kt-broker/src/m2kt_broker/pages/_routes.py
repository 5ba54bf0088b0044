"""Routes of the pages and their error pages. A page requires the same role as the API; assets require none."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, FastAPI, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from .._access import SHA256, BrokerDependency, DigestPath, Reader, TrustedKeys
from .._errors import NotFound
from .._service import Broker
from .._trusted import Trusted
from ._detail import PacketContext, packet_context, statement_context
from ._drawings import Drawing, DrawingCache
from ._list import ListQuery, list_context
from ._render import asset, render, root_of, style_sheet, style_sheet_name

Handler = Callable[[Request, Exception], Awaitable[Response]]
CHALLENGE = 'Basic realm="M2KT broker", charset="UTF-8"'
"""The only challenge of a page: Chromium shows no password dialog where a header names Bearer first."""
TITLES = {404: "Page not found", 422: "Invalid request"}
IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
ONE_DAY = {"Cache-Control": "public, max-age=86400", "X-Content-Type-Options": "nosniff"}

router = APIRouter(include_in_schema=False, default_response_class=Response)


@router.head("/")
@router.get("/")
def list_page(
    request: Request,
    query: Annotated[ListQuery, Query()],
    broker: BrokerDependency,
    trusted: TrustedKeys,
    _: Reader,
) -> Response:
    if (redirect := _redirect_to_api(request, "v1/packets")) is not None:
        return redirect
    with broker.database.read() as session:
        context = list_context(session, query, trusted)
    return render(request, "list.html.j2", **vars(context))


@router.head("/packets/{digest}")
@router.get("/packets/{digest}")
async def packet_page(
    request: Request, digest: DigestPath, broker: BrokerDependency, trusted: TrustedKeys, _: Reader
) -> Response:
    if (redirect := _redirect_to_api(request, f"v1/packets/{digest}/record")) is not None:
        return redirect
    context = await run_in_threadpool(_packet_context, broker, digest, trusted)
    drawings: DrawingCache = request.app.state.drawings
    drawing = Drawing()
    if context.packet.state != "revoked":
        drawing = await drawings.get(broker, context.packet.etag)
    return await run_in_threadpool(
        render,
        request,
        "packet.html.j2",
        sections=drawing.sections,
        drawing_error=drawing.reason,
        card=drawing.card,
        broker_url=(broker.settings.url or str(request.base_url)).rstrip("/"),
        **vars(context),
    )


def _packet_context(broker: Broker, digest: str, trusted: Trusted) -> PacketContext:
    with broker.database.read() as session:
        return packet_context(session, broker.packet_row(session, digest), trusted)


@router.head("/statements/{statement}")
@router.get("/statements/{statement}")
def statement_page(
    request: Request,
    statement: Annotated[str, Path(pattern=SHA256)],
    broker: BrokerDependency,
    trusted: TrustedKeys,
    _: Reader,
) -> Response:
    if (redirect := _redirect_to_api(request, f"v1/statements/{statement}")) is not None:
        return redirect
    with broker.database.read() as session:
        context = statement_context(session, broker.statement_row(session, statement), trusted)
    return render(request, "statement.html.j2", **vars(context))


@router.head("/assets/{name}")
@router.get("/assets/{name}")
def assets(name: str) -> Response:
    if name == style_sheet_name():
        return Response(style_sheet(), media_type="text/css", headers=IMMUTABLE)
    if name == "mark.svg":
        return Response(asset(name), media_type="image/svg+xml", headers=ONE_DAY)
    raise NotFound(f"there is no asset {name[:80]!r}; reload the page, for it may be of another release")


def _redirect_to_api(request: Request, path: str) -> Response | None:
    """Redirect a client that accepts JSON and no HTML."""
    accept = request.headers.get("accept", "")
    if "json" in accept and "text/html" not in accept:
        return RedirectResponse(root_of(request) + path, 303, {"Vary": "Accept"})
    return None


def install_error_pages(app: FastAPI) -> None:
    """Let each registered error handler return a page to browsers outside the API."""
    for error, handler in list(app.exception_handlers.items()):
        app.add_exception_handler(error, _with_page(handler))  # type: ignore[arg-type]


def _with_page(handler: Handler) -> Handler:
    async def handle(request: Request, error: Exception) -> Response:
        response = await handler(request, error)
        if not _expects_page(request) or "json" not in response.headers.get("content-type", ""):
            return response
        problem = json.loads(bytes(response.body))
        title = TITLES.get(response.status_code, problem["title"])
        page = render(
            request,
            "problem.html.j2",
            response.status_code,
            status=response.status_code,
            title=title,
            detail=problem["detail"],
        )
        for name, value in response.headers.items():
            if name not in ("content-length", "content-type"):
                page.headers[name] = value
        if response.status_code == 401:
            page.headers["WWW-Authenticate"] = CHALLENGE
        return page

    return handle


def _expects_page(request: Request) -> bool:
    is_api = request.url.path.startswith(("/v1/", "/healthz", "/readyz", "/metrics", "/openapi.json"))
    return not is_api and "text/html" in request.headers.get("accept", "")
