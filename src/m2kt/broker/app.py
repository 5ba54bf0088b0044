"""The service as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata

import anyio
from fastapi import Depends, FastAPI
from starlette.concurrency import run_in_threadpool

from . import _problems
from .keys import SCHEME
from .routes import packets, statements
from .service import Broker
from .settings import BrokerSettings


def create_app(settings: BrokerSettings) -> FastAPI:
    """A broker that starts and ends with the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        broker = app.state.broker = Broker(settings)
        app.state.upload_slots = anyio.Semaphore(settings.max_uploads_at_once)
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
    _problems.install(app)
    for router in (packets.router, statements.router):
        app.include_router(router, dependencies=[Depends(SCHEME)])
    return app
