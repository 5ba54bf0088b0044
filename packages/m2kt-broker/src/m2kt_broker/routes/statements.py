"""Signed statements about packets: receipts of those who took one in, verdicts, evaluations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from ..catalogue import StatementRow
from ..errors import NotFound
from ..keys import Publisher, Reader
from ..uploads import body
from ..views import StatementView, View, statement_view
from ._common import DigestPath, TheBroker, TheOwners

MEDIA_TYPE = "application/vnd.in-toto+json"
router = APIRouter(tags=["statements"])


class Stated(View):
    """A statement was taken."""

    statement: str = Field(description="Its digest.")


class StatementList(View):
    """All of a packet's, oldest first."""

    statements: list[StatementView]


@router.post(
    "/v1/packets/{digest}/verdicts",
    summary="Add a signed receipt, verdict or evaluation",
    status_code=201,
    response_model=Stated,
    responses={200: {"model": Stated, "description": "It was here already."}},
    openapi_extra={
        "requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": {"type": "object"}}}}
    },
)
async def add(
    digest: DigestPath, request: Request, response: Response, broker: TheBroker, caller: Publisher
) -> Stated:
    envelope = await body(request)
    name, new = await run_in_threadpool(broker.state, digest, envelope, caller)
    response.status_code = 201 if new else 200
    return Stated(statement=name)


@router.get("/v1/packets/{digest}/verdicts", summary="What was said about a packet")
def of_packet(digest: DigestPath, broker: TheBroker, owners: TheOwners, _: Reader) -> StatementList:
    with broker.database.read() as session:
        row = broker.row(session, digest)
        return StatementList(statements=[statement_view(s, owners) for s in row.statements])


@router.get(
    "/v1/statements/{statement}",
    summary="A statement as it was signed",
    response_class=Response,
    responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "object"}}}}},
)
def envelope(
    statement: Annotated[str, Path(pattern=r"^sha256:[0-9a-f]{64}$")], broker: TheBroker, _: Reader
) -> Response:
    with broker.database.read() as session:
        row = session.get(StatementRow, statement)
        if row is None:
            raise NotFound(f"there is no statement {statement} here")
        return Response(row.envelope, media_type=MEDIA_TYPE)
