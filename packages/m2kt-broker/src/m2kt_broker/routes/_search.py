"""Routes that find packets: by text, by a vector in one teacher's space, and by lineage."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from .._access import SHA256, BrokerDependency, Reader, TrustedKeys
from .._bodies import ReaderBody, described
from .._errors import NotFound
from .._records import PlainText
from .._uploads import MAX_JSON_BYTES
from .._views import PacketView, StatementView, View, packet_views, statement_view
from ..catalogue import (
    Filters,
    find_packets,
    matching_labels,
    nearest_concepts,
    packets_in_lineage,
    receipts_of,
)

router = APIRouter(prefix="/v1/search", tags=["search"])
lineage_router = APIRouter(prefix="/v1/lineage", tags=["lineage"])
MAX_LINES = 100


class Label(View):
    """A text of a packet that contains the query."""

    kind: str = Field(description="symbol, rule, skill or teacher.")
    text: str


class Match(View):
    """A packet and its matching labels."""

    packet: PacketView
    labels: list[Label]


class MatchList(View):
    """Matches, newest packet first."""

    found: list[Match]


class VectorQuery(View):
    """A query vector and the space that it belongs to."""

    space: PlainText = Field(max_length=300, description="Teacher digest and layer, as a packet's record states them.")
    vector: list[Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]] = Field(
        min_length=1, max_length=65_536, description="A hidden state of that teacher at that layer."
    )
    limit: int = Field(10, ge=1, le=100, description="Maximum number of concepts.")


class NearConceptView(View):
    """A concept near the query vector."""

    packet: str
    skill: str
    concept: str = Field(description="The rule and its arguments.")
    row: int
    cosine: float


class NearList(View):
    """Concepts, nearest first."""

    near: list[NearConceptView]


class LineageLine(View):
    """A packet, which names its teacher, and the students that ingested it."""

    packet: PacketView
    receipts: list[StatementView] = Field(
        description="Receipts of ingestions, oldest first; an accepted one names an adapter."
    )


class Lineage(View):
    """All lines that contain the digest."""

    digest: str
    lines: list[LineageLine]


@router.head("", include_in_schema=False)
@router.get("", summary="Find packets by part of the name of a symbol, rule, skill or teacher")
def find_by_text(
    q: Annotated[PlainText, Query(min_length=1, max_length=200, description="The text; case does not matter.")],
    broker: BrokerDependency,
    trusted: TrustedKeys,
    _: Reader,
    limit: Annotated[int, Query(ge=1, le=200, description="Maximum number of packets.")] = 50,
) -> MatchList:
    with broker.database.read() as session:
        rows, _next = find_packets(session, Filters(label=q), limit)
        labels = matching_labels(session, [row.digest for row in rows], q)
        return MatchList(
            found=[
                Match(packet=view, labels=[Label(kind=x.kind, text=x.text) for x in labels[view.digest]])
                for view in packet_views(session, rows, trusted)
            ]
        )


@router.post(
    "/vectors",
    summary="Find the concepts nearest to a vector in one teacher's space",
    openapi_extra=described(VectorQuery),
)
def find_by_vector(
    query: Annotated[VectorQuery, Depends(ReaderBody(VectorQuery, MAX_JSON_BYTES))], broker: BrokerDependency, _: Reader
) -> NearList:
    vector_D = np.asarray(query.vector, dtype=np.float32)
    with broker.database.read() as session:
        concepts = nearest_concepts(session, query.space, vector_D, query.limit)
    if not concepts:
        raise NotFound(
            f"no listed packet has vectors of {len(vector_D)} numbers in the space {query.space}; "
            "take the space from a packet's record"
        )
    return NearList(near=[NearConceptView(**vars(concept)) for concept in concepts])


@lineage_router.head("/{digest}", include_in_schema=False)
@lineage_router.get("/{digest}", summary="Find packets by the digest of a teacher, a packet or an adapter")
def lineage(
    digest: Annotated[str, Path(pattern=SHA256, description="Digest of a teacher, a packet or an adapter.")],
    broker: BrokerDependency,
    trusted: TrustedKeys,
    _: Reader,
) -> Lineage:
    with broker.database.read() as session:
        rows = packets_in_lineage(session, digest, MAX_LINES)
        if not rows:
            raise NotFound(f"no teacher, packet or adapter has the digest {digest}")
        return Lineage(
            digest=digest,
            lines=[
                LineageLine(
                    packet=view,
                    receipts=[statement_view(s, trusted) for s in receipts_of(session, view.digest)],
                )
                for view in packet_views(session, rows, trusted)
            ],
        )
