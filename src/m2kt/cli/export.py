"""``m2kt export ADAPTER --out DIR``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from m2kt.cli._options import Device, Dtype, DtypeName, Json
from m2kt.cli._output import print_json, reported, stdout, working

NAME = "export"


class FormName(StrEnum):
    """What a plain checkpoint is written as."""

    hf = "hf"
    gguf = "gguf"


@reported
def command(
    source: Annotated[
        str,
        typer.Argument(
            help="Adapter directory; for gguf also a model, such as one that m2kt consolidate wrote.",
            metavar="ADAPTER",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Where the checkpoint goes.", metavar="DIR")],
    form: Annotated[
        FormName,
        typer.Option("--format", help="hf: what from_pretrained opens; gguf: one file, for llama.cpp."),
    ] = FormName.hf,
    student: Annotated[
        str | None,
        typer.Option("--student", help="The adapter's base, if it is not where the adapter says."),
    ] = None,
    without_reader: Annotated[
        bool,
        typer.Option("--without-reader", help="Merge the steering and leave the reader out, with its skill."),
    ] = False,
    device: Device = "auto",
    dtype: Dtype = DtypeName.auto,
    json_: Json = False,
) -> None:
    """Merge an adapter's low-rank steering into its base and write an ordinary checkpoint that needs no m2kt.

    A concept reader depends on what it reads and cannot be merged: exit 8 says so, and m2kt consolidate trains a
    checkpoint that imitates it. A GGUF file is read back before it counts.
    """
    with working() as progress:
        from m2kt import pipeline

        result = pipeline.export(
            source,
            out,
            form=form.value,
            student=student,
            without_reader=without_reader,
            device=device,
            dtype=dtype.value,
            progress=progress,
        )
    if json_:
        print_json(result)
        return
    table = Table(show_header=False)
    table.add_row("written", result.written)
    table.add_row("bytes", f"{result.written_bytes:,}")
    table.add_row("base", result.base)
    table.add_row("merged", f"{len(result.merged)} matrices")
    for name in result.left_out:
        table.add_row("left out", f"the reader behind {name}, and what it knows")
    for note in result.notes:
        table.add_row("note", note)
    stdout().print(table)
