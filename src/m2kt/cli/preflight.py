"""``m2kt preflight STUDENT PACKET``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from m2kt.cli._options import Device, Dtype, DtypeName, Json, PacketPlace, Seed, Trust
from m2kt.cli._output import print_json, reported, stdout, working
from m2kt.errors import CompatibilityError

if TYPE_CHECKING:
    from m2kt.pipeline import PreflightResult

NAME = "preflight"
WORDS = {True: ("fit", "green"), False: ("unfit", "red"), None: ("not judged", "dim")}


@reported
def command(
    student: Annotated[str, typer.Argument(help="A directory, a Hub id, a fetched model, or a zoo: name.")],
    packet: PacketPlace,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Settings of student side and verdict.", metavar="CAL.yaml"),
    ] = None,
    seed: Seed = 0,
    trust: Trust = None,
    device: Device = "auto",
    dtype: Dtype = DtypeName.auto,
    json_: Json = False,
) -> None:
    """Say whether a student is fit for a packet, and why, before anything is trained.

    Exit 0: fit. Exit 8: unfit. Ingestion enforces the same checks; the last two are estimates.
    """
    with working() as progress:
        from m2kt import pipeline

        result = pipeline.preflight(
            student,
            packet,
            config=config,
            seed=seed,
            trust=trust,
            device=device,
            dtype=dtype.value,
            progress=progress,
        )
    if json_:
        print_json(result)
    else:
        _print(result)
    if not result.fit:
        raise typer.Exit(CompatibilityError.exit_code)


def _print(r: PreflightResult) -> None:
    word, colour = WORDS[r.fit]
    stdout().print(f"[{colour}]{word}[/{colour}]")
    table = Table("check", "", "found", "expected", "what to do")
    for check in r.checks:
        word, colour = WORDS[check["fit"]]
        texts = (Text(check[name], overflow="fold") for name in ("measured", "needed", "advice"))
        table.add_row(check["name"], Text(word, style=colour), *texts)
    stdout().print(table)
