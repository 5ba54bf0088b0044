"""``m2kt forget``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2kt.cli._options import Device, Json
from m2kt.cli._output import reported, show, working


@reported
def forget(
    adapter: Annotated[Path, typer.Argument(help="Adapter directory that m2kt ingest wrote.", metavar="ADAPTER")],
    concepts: Annotated[
        list[str],
        typer.Option(
            "--concepts",
            help="A row, as 'rule(a, b)' or 'a b', or a symbol: all rows that read or write it. May be repeated.",
            metavar="ROW",
        ),
    ],
    more: Annotated[list[str] | None, typer.Argument(help="Further rows or symbols.", metavar="[ROW ...]")] = None,
    refusal: Annotated[
        str | None,
        typer.Option(help="Text that is written where one is needed; by default the student goes on by itself."),
    ] = None,
    student: Annotated[
        str | None, typer.Option(help="Base model that the refusal is fitted to; by default the adapter's.")
    ] = None,
    purge: Annotated[bool, typer.Option("--purge", help="Delete earlier states, which hold what was removed.")] = False,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Remove single rows, or a symbol, from an adapter; all else stays as it is, to the bit. The receipt records it."""
    with working():
        from m2kt import pipeline

        removed = [*concepts, *(more or [])]
        result = pipeline.forget(adapter, removed, refusal=refusal, student=student, purge=purge, device=device)
    show(result, json_)
