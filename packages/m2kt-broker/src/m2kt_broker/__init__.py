"""The Knowledge Broker: a service that stores, finds and withdraws signed packets. It loads no model and no torch.

A store (a directory, a bucket or an OCI registry) holds packets and records. A catalogue in SQLite or PostgreSQL
indexes them; ``m2kt broker reindex`` rebuilds it from the store alone::

    routes, pages -> service -> stores      bytes, named by their digest
                             -> catalogue   rows, a function of the store

    app = create_app(BrokerSettings(data="broker"))     # an ASGI application; m2kt serve runs it
    broker.publish(digest, file, caller)                # verifies, stores, records, indexes, in this order
    broker.reindex()                                    # rebuilds the catalogue from the store

Public names are imported on first use, so that the client commands of ``m2kt`` do not import FastAPI or SQLAlchemy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._records import digest_of as digest_of
    from ._records import parse_record as parse_record
    from ._rights import Caller as Caller
    from ._service import Broker as Broker
    from ._settings import BrokerSettings as BrokerSettings
    from .app import create_app as create_app
    from .app import serve as serve

_MODULES = {
    "Broker": "._service",
    "BrokerSettings": "._settings",
    "Caller": "._rights",
    "create_app": ".app",
    "digest_of": "._records",
    "parse_record": "._records",
    "serve": ".app",
}
__all__ = ["Broker", "BrokerSettings", "Caller", "create_app", "digest_of", "parse_record", "serve"]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module 'm2kt_broker' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)
