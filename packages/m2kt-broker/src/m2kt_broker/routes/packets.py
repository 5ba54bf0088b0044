"""Packets: publish, fetch, list, take back."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from .._ranges import etag_of, not_modified, wanted_range
from ..catalogue import Filters, PacketRow, find_packets
from ..errors import Gone, Unacceptable
from ..keys import Caller, Publisher, Reader
from ..records import State
from ..service import Broker
from ..texts import Plain
from ..uploads import Gate
from ..views import (
    Owners,
    PacketList,
    PacketView,
    StatementView,
    View,
    packet_view,
    packet_views,
    statement_view,
)
from ._common import DigestPath, TheBroker, TheOwners

MEDIA_TYPE = "application/vnd.m2kt.packet.v1+zip"
router = APIRouter(prefix="/v1/packets", tags=["packets"])


class PacketRecord(PacketView):
    """All that is known of a packet but its numbers."""

    manifest: dict[str, Any]
    card: str = Field(description="Markdown, written by a stranger.")
    statements: list[StatementView]


class NewState(View):
    """What a packet's state shall be."""

    state: State = Field(
        description="yanked: hidden from lists, still handed out; revoked: for ever, bytes refused."
    )
    reason: Plain = Field(min_length=1, max_length=1000, description="Shown to whoever asks for the packet.")


class ListQuery(BaseModel):
    """Filters of a list; all that are given must hold."""

    model_config = ConfigDict(extra="forbid")

    skill: Plain | None = Field(None, description="Name of the skill.")
    teacher: Plain | None = Field(None, description="Name or digest of the teacher.")
    licence: Plain | None = Field(None, description="Of the teacher's weights.")
    signer: str | None = Field(
        None, pattern="^[0-9a-f]{1,64}$", description="A signer's key id, or its beginning."
    )
    fidelity: float | None = Field(None, ge=0, le=1, description="At least this agreement times coverage.")
    verdict: Plain | None = Field(
        None, description="Some statement has it: accepted, rejected, clean, unclean."
    )
    state: State = Field("listed", description="listed, yanked or revoked.")
    label: Plain | None = Field(
        None, min_length=1, description="Some symbol, rule, skill or teacher holds this text."
    )
    limit: int = Field(50, ge=1, le=200, description="Packets a page.")
    cursor: Plain | None = Field(None, max_length=300, description="As the page before gave it.")

    def filters(self) -> Filters:
        """Without the paging."""
        return Filters(**self.model_dump(exclude={"limit", "cursor"}))


@router.get("", summary="List packets, newest first")
def list_packets(
    query: Annotated[ListQuery, Query()], broker: TheBroker, owners: TheOwners, _: Reader
) -> PacketList:
    after = None if query.cursor is None else _place(query.cursor)
    with broker.database.read() as session:
        found, behind = find_packets(session, query.filters(), query.limit, after)
        return PacketList(
            packets=packet_views(session, found, owners),
            next=None if behind is None else _cursor(behind),
        )


@router.put(
    "/{digest}",
    summary="Publish a packet",
    status_code=201,
    response_model=PacketView,
    responses={200: {"model": PacketView, "description": "These very bytes were here already."}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def publish(
    digest: DigestPath, request: Request, broker: TheBroker, owners: TheOwners, caller: Publisher
) -> Response:
    gate: Gate = request.app.state.gate
    async with gate.received(request) as file:
        return await gate.verifying(lambda: _publish(broker, digest, file, caller, owners))


def _publish(broker: Broker, digest: str, file: Any, caller: Caller, owners: Owners) -> Response:
    row, new = broker.publish(digest, file, caller)
    with broker.database.read() as session:
        view = packet_view(session, session.get_one(PacketRow, row.digest), owners)
    headers = {"ETag": etag_of(row.blob), "Location": f"/v1/packets/{digest}"}
    return JSONResponse(view.model_dump(mode="json"), 201 if new else 200, headers)


@router.head("/{digest}", include_in_schema=False)
@router.get(
    "/{digest}",
    summary="The bytes of a packet, or a range of them",
    response_class=Response,
    responses={
        200: {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "The range that was asked for."},
        304: {"description": "What If-None-Match names is what is here."},
    },
)
def fetch(digest: DigestPath, request: Request, broker: TheBroker, caller: Reader) -> Response:
    with broker.database.read() as session:
        row = broker.row(session, digest)
    if row.state == "revoked" and caller.role != "admin":
        raise Gone(f"{digest} was revoked at {row.state_at}: {row.state_reason}; do not use it")
    etag = etag_of(row.blob)
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{digest.removeprefix("sha256:")[:16]}.m2kp"',
        "Cache-Control": "private, no-cache",  # ask each time: it may have been revoked since
        "M2KT-State": row.state,
    }
    if not_modified(request.headers, etag):
        return Response(status_code=304, headers=headers)
    try:
        part = wanted_range(request.headers, etag, row.size)
    except ValueError:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{row.size}"})
    start, end = part or (0, row.size)
    headers["Content-Length"] = str(end - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{row.size}"
    status = 200 if part is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=MEDIA_TYPE)
    return StreamingResponse(broker.store.read("packets", row.blob, start, end), status, headers, MEDIA_TYPE)


@router.get("/{digest}/record", summary="All that is known of a packet but its numbers; revoked ones too")
def record(digest: DigestPath, broker: TheBroker, owners: TheOwners, _: Reader) -> PacketRecord:
    with broker.database.read() as session:
        row = broker.row(session, digest)
        return PacketRecord(
            **packet_view(session, row, owners).model_dump(),
            manifest=row.manifest,
            card=row.card,
            statements=[statement_view(s, owners) for s in row.statements],
        )


@router.put("/{digest}/state", summary="Yank, list again, or revoke for ever")
def set_state(
    digest: DigestPath, new: NewState, broker: TheBroker, owners: TheOwners, caller: Publisher
) -> PacketView:
    broker.notice(digest, new.state, new.reason, caller)
    with broker.database.read() as session:
        return packet_view(session, broker.row(session, digest), owners)


def _cursor(place: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode("|".join(place).encode()).decode()


def _place(cursor: str) -> tuple[str, str]:
    try:
        at, digest = base64.urlsafe_b64decode(cursor.encode()).decode().split("|")
    except (binascii.Error, ValueError) as error:
        raise Unacceptable(f"expected a cursor as the page before gave it, came {cursor[:40]!r}") from error
    return at, digest
