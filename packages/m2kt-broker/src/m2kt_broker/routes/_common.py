"""What routes share. These are coroutines so that they are not sent to a thread for nothing."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request

from ..service import Broker
from ..views import Owners

DigestPath = Annotated[
    str, Path(pattern=r"^sha256:[0-9a-f]{64}$", description="Digest of a packet, as m2kt inspect shows it.")
]


async def _broker(request: Request) -> Broker:
    broker: Broker = request.app.state.broker
    return broker


TheBroker = Annotated[Broker, Depends(_broker)]


async def _owners(broker: TheBroker) -> Owners:
    return {} if broker.policy is None else {key.keyid: key.owner for key in broker.policy.keys}


TheOwners = Annotated[Owners, Depends(_owners)]
