"""Finding packets: by a word, and by an example vector within one teacher's space."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query
from pydantic import Field

from ..catalogue import Filters, find_packets, labels_like, nearest
from ..errors import NotFound
from ..keys import Reader
from ..texts import Plain
from ..views import PacketView, View, packet_views
from ._common import TheBroker, TheOwners

router = APIRouter(prefix="/v1/search", tags=["search"])


class Label(View):
    """Why a packet was found."""

    kind: str = Field(description="symbol, rule, skill or teacher.")
    text: str


class Found(View):
    """A packet, and the labels that hold the word."""

    packet: PacketView
    labels: list[Label]


class FoundList(View):
    """Newest first."""

    found: list[Found]


class Example(View):
    """What to look for."""

    space: Plain = Field(max_length=300, description="As a packet's record gives it: teacher and layer.")
    vector: list[Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]] = Field(
        min_length=1, max_length=65_536, description="A hidden state of that teacher at that layer."
    )
    limit: int = Field(10, ge=1, le=100)


class NearConcept(View):
    """A concept near the example."""

    packet: str
    skill: str
    concept: str = Field(description="Its rule and arguments.")
    row: int
    cosine: float


class NearList(View):
    """Nearest first."""

    near: list[NearConcept]


@router.get("", summary="Packets with a symbol, rule, skill or teacher that holds a word")
def by_word(
    q: Annotated[Plain, Query(min_length=1, max_length=200, description="The word; case does not count.")],
    broker: TheBroker,
    owners: TheOwners,
    _: Reader,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> FoundList:
    with broker.database.read() as session:
        rows, _more = find_packets(session, Filters(label=q), limit)
        labels = labels_like(session, [row.digest for row in rows], q)
        return FoundList(
            found=[
                Found(packet=view, labels=[Label(kind=x.kind, text=x.text) for x in labels[view.digest]])
                for view in packet_views(session, rows, owners)
            ]
        )


@router.post("/vectors", summary="Concepts near a vector, within one teacher's space")
def by_vector(example: Example, broker: TheBroker, _: Reader) -> NearList:
    vector_D = np.asarray(example.vector, dtype=np.float32)
    with broker.database.read() as session:
        found = nearest(session, example.space, vector_D, example.limit)
    if not found:
        raise NotFound(
            f"no packet with vectors of {len(vector_D)} numbers is listed in the space {example.space}; "
            "a packet's record names its own"
        )
    return NearList(near=[NearConcept(**vars(near)) for near in found])
