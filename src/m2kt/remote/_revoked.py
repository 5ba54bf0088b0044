"""Was this packet taken back? Asked before a packet is taken in, wherever it came from."""

from __future__ import annotations

import os

from m2kt.errors import BrokerError, TrustError

from ._cache import OFFLINE, offline, refuse_remembered, remember_revoked
from ._client import URL, BrokerClient


def refuse_revoked(digest: str) -> None:
    """Asks the broker of ``M2KT_BROKER_URL``, if there is one, and what this machine remembers.

    Raises:
        TrustError: the packet is revoked.
        BrokerError: the broker does not answer, and ``M2KT_OFFLINE`` does not say to go on without.
    """
    refuse_remembered(digest)
    if not os.environ.get(URL) or offline():
        return
    with BrokerClient() as broker:
        try:
            record = broker.record(digest)
        except BrokerError as error:
            if error.status == 404:  # the broker never saw it, so it cannot have taken it back
                return
            raise BrokerError(
                f"cannot learn whether {digest} was revoked: {error}; {OFFLINE}=1 goes on without",
                error.status,
            ) from error
    if record["state"] == "revoked":
        remember_revoked(digest, broker.url, record["state_reason"])
        raise TrustError(f"{digest} was revoked at {broker.url}: {record['state_reason']}; do not use it")
