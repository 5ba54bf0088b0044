"""``m2kt demo``: the main job on tiny models, with one accept and one rollback."""

from __future__ import annotations

from typing import Annotated

import typer

from m2kt.cli._options import Json, Seed
from m2kt.cli._output import print_json, reported, stdout, working

NAME = "demo"


@reported
def command(
    student: Annotated[
        str, typer.Option("--student", help="Student to teach.", metavar="NAME")
    ] = "zoo:pico-gpt2",
    seed: Seed = 0,
    json_: Json = False,
) -> None:
    """Extract the zoo's skills, teach them to a frozen student, and show a spoiled packet being rolled back."""
    with working() as progress:
        from m2kt import pipeline

        result = pipeline.demo(student=student, seed=seed, progress=progress)
    if json_:
        print_json(result)
        return
    from m2kt.cli._render import demo_tables

    for table in demo_tables(result):
        stdout().print(table)
