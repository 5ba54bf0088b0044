"""Runs the service until it is told to stop; requests under way are finished first."""

from __future__ import annotations

import uvicorn

from .app import create_app
from .observe import configure_logs
from .settings import BrokerSettings


def serve(settings: BrokerSettings, host: str, port: int) -> None:
    """Blocks until SIGTERM or SIGINT."""
    configure_logs()
    config = uvicorn.Config(
        create_app(settings),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    uvicorn.Server(config).run()
