"""The service as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata

from fastapi import Depends, FastAPI
from starlette.concurrency import run_in_threadpool

from . import _problems, pages
from .keys import SCHEME
from .metrics import Metrics
from .observe import Observed
from .routes import health, lineage, packets, search, statements
from .service import Broker
from .settings import BrokerSettings
from .uploads import Gate

GUARDED = (packets, statements, search, lineage)


def create_app(settings: BrokerSettings) -> FastAPI:
    """A broker that starts and ends with the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        broker = app.state.broker = Broker(settings)
        app.state.gate = Gate(settings)
        await run_in_threadpool(broker.start)
        yield
        broker.close()

    app = FastAPI(
        title="M2KT Knowledge Broker",
        version=metadata.version("m2kt"),
        description="Knowledge packets: published, found, trusted, taken back.",
        lifespan=lifespan,
        responses=_problems.RESPONSES,
        docs_url=None,  # its page would come from a CDN
        redoc_url=None,
    )
    app.state.metrics = Metrics()
    app.add_middleware(Observed, metrics=app.state.metrics)
    _problems.install(app)
    app.include_router(health.router)
    for room in GUARDED:
        app.include_router(room.router, dependencies=[Depends(SCHEME)])
    pages.mount(app)
    return app
