"""``m2kt serve``: run the Knowledge Broker."""

from __future__ import annotations

from typing import Annotated

import typer

from m2kt.cli import Trust, reported

from ._options import Data, DatabaseUrl, StoreUrl


@reported
def command(
    data: Data,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8765,
    database: DatabaseUrl = None,
    store: StoreUrl = None,
    trust: Trust = None,
    public: Annotated[bool, typer.Option("--public", help="Allow reading without an API key.")] = False,
    max_upload: Annotated[int, typer.Option(min=1, help="Maximum size of an upload in MiB.")] = 256,
    quota: Annotated[int, typer.Option(min=1, help="Maximum size of what one API key stores, in GiB.")] = 20,
    url: Annotated[
        str | None, typer.Option(help="Address by which clients reach the broker, shown on pages.", metavar="URL")
    ] = None,
    uploads: Annotated[int, typer.Option(min=1, help="Maximum number of concurrent uploads.")] = 8,
) -> None:
    """Run the Knowledge Broker: store, find and revoke packets over HTTP.

    Create API keys first: m2kt broker keys new. With --trust, the broker rejects packets that the policy rejects.
    """
    from m2kt_broker import BrokerSettings, serve

    settings = BrokerSettings(
        data=data,
        database=database,
        store=store,
        trust=trust,
        public=public,
        max_upload=max_upload << 20,
        quota_bytes=quota << 30,
        url=url,
        max_uploads_at_once=uploads,
    )
    serve(settings, host, port)
