"""``m2kt rollback ADAPTER``: back to an earlier committed state."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from m2kt.cli._options import Json
from m2kt.cli._output import print_json, reported, stdout

NAME = "rollback"


@reported
def command(
    adapter: Annotated[
        Path, typer.Argument(help="Adapter directory that m2kt ingest wrote.", metavar="ADAPTER")
    ],
    to: Annotated[
        str | None,
        typer.Option(
            help="Number of a state, or the beginning of its digest; the one before this by default.",
            metavar="STATE",
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Only list the earlier states.")] = False,
    json_: Json = False,
) -> None:
    """Put an earlier state of an adapter back, bit for bit. What stands there now becomes a state itself.

    Exit 9: there is no such state, or it was changed since it was committed.
    """
    from m2kt.pipeline import adapter_digest, rollback, states

    if list_:
        known = states(adapter)
        if json_:
            print_json({"now": adapter_digest(adapter), "states": [s.model_dump() for s in known]})
            return
        table = Table("state", "digest", "packet")
        for state in known:
            table.add_row(str(state.number), state.digest, state.packet or "-")
        table.add_row("now", adapter_digest(adapter) or "-", "")
        stdout().print(table)
        return
    before = adapter_digest(adapter)
    state = rollback(adapter, to)
    now = adapter_digest(adapter)
    if json_:
        print_json({"state": state.number, "before": before, "now": now, "packet": state.packet})
    else:
        stdout().print(f"state {state.number} is back: {now} (was {before})", markup=False, highlight=False)
