"""``m2kt serve``: the Knowledge Broker."""

from __future__ import annotations

from typing import Annotated

import typer

from m2kt.cli._options import Trust
from m2kt.cli._output import reported

from ._options import Data, DatabaseUrl, StoreUrl, settings_of


@reported
def command(
    data: Data,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8765,
    database: DatabaseUrl = None,
    store: StoreUrl = None,
    trust: Trust = None,
    public: Annotated[bool, typer.Option("--public", help="Let anybody read without a key.")] = False,
    max_upload: Annotated[int, typer.Option(min=1, help="MiB that an upload may have.")] = 256,
    uploads: Annotated[int, typer.Option(min=1, help="Uploads at once; more are told to come back.")] = 8,
) -> None:
    """Store, find and take back packets over HTTP, until stopped.

    Make keys first: m2kt broker keys new. With --trust, packets that the policy does not accept are refused.
    """
    import m2kt_broker

    settings = settings_of(
        data,
        database,
        store,
        trust=trust,
        public=public,
        max_upload=max_upload << 20,
        max_uploads_at_once=uploads,
    )
    m2kt_broker.serve(settings, host, port)
