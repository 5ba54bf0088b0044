"""Options that the verbs of the broker share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Option("--data", help="Data folder of the broker.", metavar="DIR", envvar="M2KT_DATA")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database",
        help="postgresql://user@host/name; by default SQLite in --data.",
        metavar="URL",
        envvar="M2KT_DATABASE",
    ),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="DIR, s3://bucket/prefix or oci://registry/name; by default a directory in --data.",
        metavar="URL",
        envvar="M2KT_STORE",
    ),
]
