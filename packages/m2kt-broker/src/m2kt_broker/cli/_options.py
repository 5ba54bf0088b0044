"""What the verbs of the broker's own machine share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from m2kt_broker import BrokerSettings

Data = Annotated[
    Path, typer.Option("--data", help="Folder of the broker.", metavar="DIR", envvar="M2KT_DATA")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database",
        help="postgresql://user@host/name; SQLite in --data by default.",
        metavar="URL",
        envvar="M2KT_DATABASE",
    ),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="DIR, s3://bucket/prefix or oci://registry/name; in --data by default.",
        metavar="URL",
        envvar="M2KT_STORE",
    ),
]


def settings_of(data: Path, database: str | None, store: str | None, **more: Any) -> BrokerSettings:
    """From options."""
    from m2kt_broker import BrokerSettings

    return BrokerSettings(data=data, database=database, store=store, **more)
