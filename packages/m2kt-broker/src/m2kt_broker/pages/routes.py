"""Where the pages are. Reading them needs what reading the API needs; their looks are for everybody."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ..catalogue import StatementRow
from ..errors import NotFound
from ..keys import Reader
from ..routes._common import DigestPath, TheBroker, TheOwners
from ..service import Broker
from ..views import Owners
from .answers import asset, elsewhere, rendered, sheet, sheet_name
from .inside import Drawings
from .listing import ListQuery, listing
from .record import record
from .statement import statement

router = APIRouter(include_in_schema=False, default_response_class=Response)
FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
FOR_A_DAY = {"Cache-Control": "public, max-age=86400", "X-Content-Type-Options": "nosniff"}


@router.head("/")
@router.get("/")
def list_page(
    request: Request, query: Annotated[ListQuery, Query()], broker: TheBroker, owners: TheOwners, _: Reader
) -> Response:
    if (led := elsewhere(request, "/v1/packets")) is not None:
        return led
    with broker.database.read() as session:
        found = listing(session, query, owners)
    return rendered(request, "list.html.j2", **found)


@router.head("/packets/{digest}")
@router.get("/packets/{digest}")
async def packet_page(
    request: Request, digest: DigestPath, broker: TheBroker, owners: TheOwners, _: Reader
) -> Response:
    if (led := elsewhere(request, f"/v1/packets/{digest}/record")) is not None:
        return led
    told = await run_in_threadpool(_record, broker, digest, owners)
    revoked = told["packet"].state == "revoked"
    drawings: Drawings = request.app.state.drawings
    inside = [] if revoked else await drawings.of(broker, told["packet"].etag)
    why = inside if isinstance(inside, str) else None
    return await run_in_threadpool(
        rendered,
        request,
        "packet.html.j2",
        inside=[] if why else inside,
        why=why,
        broker_url=str(request.base_url).rstrip("/"),
        **told,
    )


def _record(broker: Broker, digest: str, owners: Owners) -> dict[str, Any]:
    with broker.database.read() as session:
        return record(session, broker.row(session, digest), owners)


@router.head("/statements/{statement}")
@router.get("/statements/{statement}")
def statement_page(
    request: Request,
    statement_: Annotated[str, Path(alias="statement", pattern=r"^sha256:[0-9a-f]{64}$")],
    broker: TheBroker,
    owners: TheOwners,
    _: Reader,
) -> Response:
    if (led := elsewhere(request, f"/v1/statements/{statement_}")) is not None:
        return led
    with broker.database.read() as session:
        row = session.get(StatementRow, statement_)
        if row is None:
            raise NotFound(f"there is no statement {statement_} here")
        return rendered(request, "statement.html.j2", **statement(session, row, owners))


@router.head("/assets/{name}")
@router.get("/assets/{name}")
def assets(name: str) -> Response:
    if name == sheet_name():
        return Response(sheet(), media_type="text/css", headers=FOR_EVER)
    if name == "mark.svg":
        return Response(asset(name), media_type="image/svg+xml", headers=FOR_A_DAY)
    raise NotFound("there is no such asset; it may be of another release: load the page again")
