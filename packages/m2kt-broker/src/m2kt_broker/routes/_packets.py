"""Routes of packets: publish, download, list, yank and revoke."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from .._access import BrokerDependency, DigestPath, Publisher, Reader, TrustedKeys
from .._bodies import JSON, read_within, require_type
from .._errors import Gone, Unprocessable
from .._ranges import etag_of, not_modified, requested_range
from .._records import PlainText, State
from .._rights import Caller
from .._service import Broker
from .._trusted import Trusted
from .._uploads import MAX_STATEMENT_BYTES, UploadLimiter
from .._views import PacketList, PacketView, StatementView, packet_view, packet_views, statement_view
from ..catalogue import Filters, PacketRow, authors_of, find_packets

STATEMENT_TYPE = "application/vnd.in-toto+json"
MEDIA_TYPE = "application/vnd.m2kt.packet.v1+zip"
BINARY: dict[str, Any] = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}
router = APIRouter(prefix="/v1/packets", tags=["packets"])


class PacketRecord(PacketView):
    """Everything about a packet except its tensors."""

    manifest: dict[str, Any]
    card: str = Field(description="Markdown by the author of the packet; untrusted.")
    statements: list[StatementView]
    authors: list[str] = Field(description="Ids of the keys that signed it as their packet, first one first.")
    state_envelope: str | None = Field(description="The signed notice behind the state, byte for byte.")


class ListQuery(BaseModel):
    """Filters of a list; all that are set must hold."""

    model_config = ConfigDict(extra="forbid")

    skill: PlainText | None = Field(None, description="Name of the skill.")
    teacher: PlainText | None = Field(None, description="Name or digest of the teacher.")
    licence: PlainText | None = Field(None, description="Licence of the teacher's weights.")
    signer: str | None = Field(None, pattern="^[0-9a-f]{1,64}$", description="Key id of a signer, or its prefix.")
    fidelity: float | None = Field(None, ge=0, le=1, description="Minimum of agreement times coverage.")
    verdict: PlainText | None = Field(
        None, description="Verdict of at least one statement that counts: accepted, rejected, clean, unclean."
    )
    state: State = Field("listed", description="listed, yanked or revoked.")
    label: PlainText | None = Field(
        None, min_length=1, description="Part of the name of a symbol, rule, skill or teacher."
    )
    limit: int = Field(50, ge=1, le=200, description="Maximum number of packets on a page.")
    cursor: PlainText | None = Field(None, max_length=300, description="The field next of the page before.")

    def filters(self, trusted: Trusted) -> Filters:
        """The filters without the pagination."""
        return Filters(**self.model_dump(exclude={"limit", "cursor"}), trusted=trusted)


@router.head("", include_in_schema=False)
@router.get("", summary="List packets, newest first")
def list_packets(
    query: Annotated[ListQuery, Query()], broker: BrokerDependency, trusted: TrustedKeys, _: Reader
) -> PacketList:
    after = None if query.cursor is None else _decode_cursor(query.cursor)
    with broker.database.read() as session:
        rows, position = find_packets(session, query.filters(trusted), query.limit, after)
        return PacketList(
            packets=packet_views(session, rows, trusted),
            next=None if position is None else _encode_cursor(position),
        )


@router.put(
    "/{digest}",
    summary="Publish a packet",
    status_code=201,
    response_model=PacketView,
    responses={200: {"model": PacketView, "description": "The broker already had the same bytes."}},
    openapi_extra={"requestBody": {"required": True, "content": BINARY}},
)
async def publish(
    digest: DigestPath, request: Request, broker: BrokerDependency, trusted: TrustedKeys, caller: Publisher
) -> Response:
    uploads: UploadLimiter = request.app.state.uploads
    async with uploads.receive(request) as file:
        return await uploads.run_verification(lambda: _publish(broker, digest, file, caller, trusted))


def _publish(broker: Broker, digest: str, file: Path, caller: Caller, trusted: Trusted) -> Response:
    row, is_new = broker.publish(digest, file, caller)
    with broker.database.read() as session:
        view = packet_view(session, session.get_one(PacketRow, row.digest), trusted)
    headers = {"ETag": etag_of(row.blob), "Location": digest}
    return JSONResponse(view.model_dump(mode="json"), 201 if is_new else 200, headers)


@router.head("/{digest}", include_in_schema=False)
@router.get(
    "/{digest}",
    summary="Download a packet, or a range of its bytes",
    response_class=Response,
    responses={
        200: {"content": BINARY},
        206: {"description": "The requested range."},
        304: {"description": "If-None-Match names the current ETag."},
    },
)
def download(
    digest: DigestPath,
    request: Request,
    broker: BrokerDependency,
    caller: Reader,
    author: Annotated[
        str | None, Query(pattern="^[0-9a-f]{64}$", description="Id of the author's key, where a packet has several.")
    ] = None,
) -> Response:
    with broker.database.read() as session:
        row = broker.packet_row(session, digest)
        blob, size = broker.served_form(row, author)
    if row.state == "revoked" and caller.role != "admin":
        raise Gone(f"{digest} was revoked at {row.state_at}: {row.state_reason}; do not use it")
    etag = etag_of(blob)
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{digest.removeprefix("sha256:")[:16]}.m2kp"',
        "Cache-Control": "private, no-cache",  # a cache must revalidate, because the packet may have been revoked
        "M2KT-State": row.state,
    }
    if not_modified(request.headers, etag):
        return Response(status_code=304, headers=headers)
    try:
        byte_range = requested_range(request.headers, etag, size)
    except ValueError:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    start, end = byte_range or (0, size)
    headers["Content-Length"] = str(end - start)
    if byte_range is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = 200 if byte_range is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=MEDIA_TYPE)
    return StreamingResponse(broker.store.read("packets", blob, start, end), status, headers, MEDIA_TYPE)


@router.head("/{digest}/record", include_in_schema=False)
@router.get("/{digest}/record", summary="Everything about a packet except its tensors; also if it is revoked")
def record(digest: DigestPath, broker: BrokerDependency, trusted: TrustedKeys, _: Reader) -> PacketRecord:
    with broker.database.read() as session:
        row = broker.packet_row(session, digest)
        return PacketRecord(
            **packet_view(session, row, trusted).model_dump(),
            manifest=row.manifest,
            card=row.card,
            statements=[statement_view(s, trusted) for s in row.statements],
            authors=authors_of(row),
            state_envelope=row.state_envelope,
        )


@router.put(
    "/{digest}/state",
    summary="Yank a packet, list it again, or revoke it permanently, by a signed notice",
    response_model=PacketView,
    openapi_extra={"requestBody": {"required": True, "content": {STATEMENT_TYPE: {"schema": {"type": "object"}}}}},
)
async def set_state(
    digest: DigestPath, request: Request, broker: BrokerDependency, trusted: TrustedKeys, caller: Publisher
) -> PacketView:
    require_type(request, STATEMENT_TYPE, JSON)
    envelope = await read_within(request, MAX_STATEMENT_BYTES, broker.settings.body_seconds)
    return await run_in_threadpool(_set_state, broker, digest, envelope, caller, trusted)


def _set_state(broker: Broker, digest: str, envelope: bytes, caller: Caller, trusted: Trusted) -> PacketView:
    broker.set_state(digest, envelope, caller)
    with broker.database.read() as session:
        return packet_view(session, broker.packet_row(session, digest), trusted)


def _encode_cursor(position: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode("|".join(position).encode()).decode()


def _decode_cursor(cursor: str) -> tuple[str, str]:
    try:
        published_at, digest = base64.urlsafe_b64decode(cursor.encode()).decode().split("|")
    except (binascii.Error, ValueError) as error:
        raise Unprocessable(f"expected the field next of a page as cursor, got {cursor[:40]!r}") from error
    return published_at, digest
