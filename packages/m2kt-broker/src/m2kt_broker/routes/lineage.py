"""Where something came from and what became of it: teacher, packet, adapters."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field

from ..catalogue import descended, receipts_of
from ..errors import NotFound
from ..keys import Reader
from ..views import PacketView, StatementView, View, packet_views, statement_view
from ._common import TheBroker, TheOwners

router = APIRouter(prefix="/v1/lineage", tags=["lineage"])
MOST = 100


class Line(View):
    """One packet, with those who took it in. Its teacher stands in the packet."""

    packet: PacketView
    receipts: list[StatementView] = Field(
        description="Ingests, oldest first; those accepted name an adapter."
    )


class Lineage(View):
    """All lines that the digest is on."""

    digest: str
    lines: list[Line]


@router.get("/{digest}", summary="Of a teacher, a packet or an adapter")
def lineage(
    digest: Annotated[
        str, Path(pattern=r"^sha256:[0-9a-f]{64}$", description="Of a teacher, a packet or an adapter.")
    ],
    broker: TheBroker,
    owners: TheOwners,
    _: Reader,
) -> Lineage:
    with broker.database.read() as session:
        rows = descended(session, digest, MOST)
        if not rows:
            raise NotFound(f"nothing here is, comes from, or became {digest}")
        return Lineage(
            digest=digest,
            lines=[
                Line(
                    packet=view,
                    receipts=[statement_view(s, owners) for s in receipts_of(session, view.digest)],
                )
                for view in packet_views(session, rows, owners)
            ],
        )
