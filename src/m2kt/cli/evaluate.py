"""``m2kt evaluate MODEL --probes SPEC``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from m2kt.cli._options import Device, Dtype, DtypeName, Json, Probes, Seed
from m2kt.cli._output import interval, percent, print_json, reported, stdout, working

NAME = "evaluate"


@reported
def command(
    model: Annotated[str, typer.Argument(help="A directory, a Hub id, a fetched model, or a zoo: name.")],
    probes: Probes,
    adapter: Annotated[Path | None, typer.Option("--adapter", help="Adapter made by ingest.")] = None,
    labelled: Annotated[
        Path | None,
        typer.Option("--labelled", help='JSON lines of {"prompt", "answer"} instead of the spec\'s prompts.'),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="Also count agreement with this model.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Number of prompts.")] = 200,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Ask the shapes that are never probed.")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = DtypeName.auto,
    json_: Json = False,
) -> None:
    """Ask a model evaluation prompts and count right answers, and agreement with a teacher."""
    with working() as progress:
        from m2kt import pipeline

        result = pipeline.evaluate(
            model,
            str(probes),
            adapter=adapter,
            labelled=labelled,
            teacher=teacher,
            n=n,
            held_out=held_out,
            seed=seed,
            device=device,
            dtype=dtype.value,
            progress=progress,
        )
    if json_:
        print_json(result)
        return
    table = Table(show_header=False)
    table.add_row("accuracy", f"{percent(result.accuracy)} {interval(result.interval)}")
    table.add_row("agreement with the teacher", percent(result.agreement))
    table.add_row("prompts", f"{result.n} ({result.judged} with a known answer)")
    stdout().print(table)
    for wrong in result.wrong[:5]:
        stdout().print(f"wrong: {wrong}", markup=False, highlight=False)
