"""Routes of signed statements about packets: receipts, audit verdicts, evaluations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from .._access import SHA256, BrokerDependency, DigestPath, Publisher, Reader, TrustedKeys
from .._bodies import JSON, read_within, require_type
from .._uploads import MAX_STATEMENT_BYTES
from .._views import StatementView, View, statement_view

MEDIA_TYPE = "application/vnd.in-toto+json"
JSON_OBJECT = {MEDIA_TYPE: {"schema": {"type": "object"}}}
router = APIRouter(tags=["statements"])


class StatementDigest(View):
    """The stored statement."""

    statement: str = Field(description="Digest of the statement.")


class StatementList(View):
    """All statements about a packet, oldest first."""

    statements: list[StatementView]


@router.post(
    "/v1/packets/{digest}/verdicts",
    summary="Add a signed receipt, verdict or evaluation",
    status_code=201,
    response_model=StatementDigest,
    responses={200: {"model": StatementDigest, "description": "The broker already had the statement."}},
    openapi_extra={"requestBody": {"required": True, "content": JSON_OBJECT}},
)
async def add_statement(
    digest: DigestPath, request: Request, response: Response, broker: BrokerDependency, caller: Publisher
) -> StatementDigest:
    require_type(request, MEDIA_TYPE, JSON)
    envelope = await read_within(request, MAX_STATEMENT_BYTES, broker.settings.body_seconds)
    statement, is_new = await run_in_threadpool(broker.add_statement, digest, envelope, caller)
    response.status_code = 201 if is_new else 200
    return StatementDigest(statement=statement)


@router.head("/v1/packets/{digest}/verdicts", include_in_schema=False)
@router.get("/v1/packets/{digest}/verdicts", summary="List the statements about a packet")
def list_statements(digest: DigestPath, broker: BrokerDependency, trusted: TrustedKeys, _: Reader) -> StatementList:
    with broker.database.read() as session:
        row = broker.packet_row(session, digest)
        return StatementList(statements=[statement_view(s, trusted) for s in row.statements])


@router.head("/v1/statements/{statement}", include_in_schema=False)
@router.get(
    "/v1/statements/{statement}",
    summary="Download the signed envelope of a statement",
    response_class=Response,
    responses={200: {"content": JSON_OBJECT}},
)
def envelope(
    statement: Annotated[str, Path(pattern=SHA256, description="Digest of a statement.")],
    broker: BrokerDependency,
    _: Reader,
) -> Response:
    with broker.database.read() as session:
        return Response(broker.statement_row(session, statement).envelope, media_type=MEDIA_TYPE)
