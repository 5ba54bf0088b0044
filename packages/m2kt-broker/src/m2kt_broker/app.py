"""The service as an ASGI application. This module is public because ASGI servers import applications by module name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata

import uvicorn
from fastapi import Depends, FastAPI
from starlette.concurrency import run_in_threadpool

from . import _errors, pages
from ._access import BEARER
from ._limits import LimitsMiddleware, protocol
from ._metrics import Metrics
from ._observe import ObservabilityMiddleware, configure_logs
from ._service import Broker
from ._settings import BrokerSettings
from ._uploads import UploadLimiter
from .routes import api_routers, health_router


def create_app(settings: BrokerSettings) -> FastAPI:
    """Create the application; its lifespan opens and closes the broker."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        broker = app.state.broker = Broker(settings)
        app.state.uploads = UploadLimiter(settings)
        await run_in_threadpool(broker.start)
        yield
        broker.close()

    app = FastAPI(
        title="M2KT Knowledge Broker",
        version=metadata.version("m2kt"),
        description="Publishes, finds, verifies and revokes signed knowledge packets.",
        lifespan=lifespan,
        responses=_errors.RESPONSES,
        docs_url=None,  # FastAPI's documentation pages load scripts from a CDN
        redoc_url=None,
    )
    app.state.metrics = Metrics()
    app.add_middleware(LimitsMiddleware)
    app.add_middleware(ObservabilityMiddleware, metrics=app.state.metrics)
    _errors.install(app)
    app.include_router(health_router)
    for router in api_routers:
        app.include_router(router, dependencies=[Depends(BEARER)])
    pages.mount(app)
    return app


def serve(settings: BrokerSettings, host: str, port: int) -> None:
    """Run the service until SIGTERM or SIGINT; requests in progress are completed first."""
    configure_logs()
    config = uvicorn.Config(
        create_app(settings),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        http=protocol(settings.header_seconds, settings.write_seconds),
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    uvicorn.Server(config).run()
