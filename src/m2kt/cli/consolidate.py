"""``m2kt consolidate STUDENT --adapter A --packet P --out DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from m2kt.cli._options import Device, Dtype, DtypeName, Json, Seed
from m2kt.cli._output import REJECTED, interval, percent, print_json, reported, stdout, working

NAME = "consolidate"


@reported
def command(
    student: Annotated[str, typer.Argument(help="The frozen base of the adapter.")],
    adapter: Annotated[
        Path, typer.Option("--adapter", help="Adapter that ingest accepted.", metavar="ADAPTER")
    ],
    packet: Annotated[str, typer.Option("--packet", help="The packet that it comes from.", metavar="PACKET")],
    out: Annotated[Path, typer.Option("--out", help="Where the checkpoint goes.", metavar="DIR")],
    config: Annotated[
        Path | None, typer.Option("--config", help="Thresholds, as for ingest.", metavar="CAL.yaml")
    ] = None,
    updates: Annotated[int | None, typer.Option(min=1, help="Optimiser steps, at most.")] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Of the update of each matrix.")] = None,
    seed: Seed = 0,
    probes: Annotated[
        str | None,
        typer.Option("--probes", help="Spec with a truth: judge by it.", metavar="SPEC"),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = DtypeName.auto,
    json_: Json = False,
) -> None:
    """Turn an accepted adapter into an ordinary checkpoint that needs no m2kt.

    The accepted student answers rehearsal prompts of the packet, low-rank updates of its frozen matrices learn the
    answers and are merged. Exit 0: accepted and written. Exit 5: rejected; nothing was written but a receipt.
    """
    with working() as progress:
        from m2kt import pipeline
        from m2kt.student import ConsolidateSettings

        chosen = {"updates": updates, "rank": rank}
        result = pipeline.consolidate(
            student,
            adapter,
            packet,
            out,
            settings=ConsolidateSettings(**{k: v for k, v in chosen.items() if v is not None}),
            config=config,
            seed=seed,
            probes=probes,
            device=device,
            dtype=dtype.value,
            progress=progress,
        )
    if json_:
        print_json(result)
    else:
        table = Table(show_header=False)
        table.add_row("verdict", result.verdict)
        table.add_row("accuracy", f"{percent(result.accuracy)} {interval(result.interval)}")
        table.add_row("with the reader", percent(result.reader))
        table.add_row("frozen student", percent(result.before))
        table.add_row("tokens", f"{result.ledger['tokens']:,} in {result.ledger['updates']} updates")
        table.add_row("written to", str(result.model or "-"))
        stdout().print(table)
        for reason in result.reasons:
            stdout().print(f"because: {reason}", markup=False, highlight=False)
    if result.verdict == "rejected":
        raise typer.Exit(REJECTED)
