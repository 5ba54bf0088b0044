"""The Knowledge Broker: where packets are published, found, trusted and taken back. It loads no model and no torch.

Bytes and small records lie in a store (a directory, a bucket, an OCI registry); a catalogue in SQLite or PostgreSQL
finds them and can be rebuilt from the store alone::

    routes -> service -> stores      bytes, under their digest
                      -> catalogue   rows, a function of what is stored

    app = create_app(BrokerSettings(data="broker"))     # ASGI; m2kt serve runs it
    broker.publish(digest, file, caller)                # verified, stored, recorded, listed, in this order
    broker.reindex()                                    # the catalogue anew, from the store

Names are imported when first used, so that a client pays for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._run import serve as serve
    from .app import create_app as create_app
    from .service import Broker as Broker
    from .settings import BrokerSettings as BrokerSettings

__all__ = ["Broker", "BrokerSettings", "create_app", "serve"]
_HOMES = {"create_app": ".app", "serve": "._run", "Broker": ".service", "BrokerSettings": ".settings"}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'm2kt_broker' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
