"""``m2kt doctor``: what is there, and what is missing for what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from m2kt.cli._options import Json
from m2kt.cli._output import print_json, reported, stdout, working

if TYPE_CHECKING:
    from m2kt.pipeline import Diagnostics

_STYLES = {"good": "green", "missing": "yellow", "broken": "bold red", "off": "dim"}


@reported
def doctor(
    network: Annotated[
        bool, typer.Option("--network/--no-network", help="Ask the Hub, the package index and the broker, too.")
    ] = True,
    json_: Json = False,
) -> None:
    """Look at versions, devices, home, keys, models and network: what is missing for what? Changes nothing.

    Exit 0: m2kt works; what is missing costs single features. Exit 1: something that all verbs need is broken.
    """
    with working() as progress:
        from m2kt import pipeline

        result = pipeline.doctor(network=network, progress=progress)
    if json_:
        print_json(result.report())
    else:
        stdout().print(_table(result))
        style = "green" if result.healthy else "red"
        stdout().print(Text(result.headline(), style=style), soft_wrap=True)
    if not result.healthy:
        raise typer.Exit(1)


def _table(result: Diagnostics) -> Table:
    table = Table("", "", "found", "needed for", "what to do")
    for check in result.checks:
        name, state = Text(check.name), Text(check.state, style=_STYLES[check.state])
        advice = check.advice or ""
        table.add_row(name, state, *(Text(t, overflow="fold") for t in (check.found, check.needed_for, advice)))
    return table
