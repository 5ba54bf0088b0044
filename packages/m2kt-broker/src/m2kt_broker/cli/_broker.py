"""``m2kt broker keys new|list|end``, ``m2kt broker reindex|check``: on the broker's own machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from m2kt.cli._options import Json
from m2kt.cli._output import EXIT_CODES, print_json, reported, stderr, stdout
from m2kt.errors import StorageError

from ._options import Data, DatabaseUrl, StoreUrl, settings_of

if TYPE_CHECKING:
    from m2kt_broker import Broker

app = typer.Typer(help="A broker's keys and index, on its own machine.", no_args_is_help=True)
keys = typer.Typer(help="API keys of a broker.", no_args_is_help=True)
app.add_typer(keys, name="keys")


class RoleName(StrEnum):
    """What a key lets its holder do."""

    reader = "reader"
    publisher = "publisher"
    admin = "admin"


@keys.command("new", epilog=EXIT_CODES)
@reported
def new(
    name: Annotated[str, typer.Argument(help="Whose it is.")],
    data: Data,
    role: Annotated[RoleName, typer.Option(help="reader reads, publisher also writes, admin may do all.")],
    database: DatabaseUrl = None,
    store: StoreUrl = None,
    json_: Json = False,
) -> None:
    """Make an API key. It is shown this once; the broker keeps its digest alone."""
    broker = _open(data, database, store)
    record, token = broker.make_key(name, role.value, by="m2kt broker keys")
    if json_:
        print_json({"id": record.id, "name": name, "role": role.value, "key": token})
        return
    stderr().print(
        f"{role.value} key of {name}, id {record.id}; shown this once:", style="dim", highlight=False
    )
    stdout().print(token, markup=False, highlight=False, soft_wrap=True)


@keys.command("list", epilog=EXIT_CODES)
@reported
def list_(data: Data, database: DatabaseUrl = None, store: StoreUrl = None, json_: Json = False) -> None:
    """All keys, those that were ended included."""
    found = _open(data, database, store).list_keys()
    if json_:
        print_json({"keys": found})
        return
    table = Table("id", "name", "role", "made", "ended")
    for key in found:
        table.add_row(key["id"], key["name"], key["role"], key["created_at"], key["ended_at"] or "-")
    stdout().print(table)


@keys.command("end", epilog=EXIT_CODES)
@reported
def end(
    identity: Annotated[str, typer.Argument(help="Its id, as m2kt broker keys list shows it.", metavar="ID")],
    data: Data,
    database: DatabaseUrl = None,
    store: StoreUrl = None,
) -> None:
    """Take a key back: it opens nothing from now on."""
    _open(data, database, store).end_key(identity, by="m2kt broker keys")
    stderr().print(f"ended {identity}", style="dim", highlight=False)


@app.command("reindex", epilog=EXIT_CODES)
@reported
def reindex(data: Data, database: DatabaseUrl = None, store: StoreUrl = None, json_: Json = False) -> None:
    """Build the database anew from the store alone. Stop the server first."""
    broker = _open(data, database, store)
    count = broker.reindex()
    if json_:
        print_json({"records": count, "lost": broker.lost})
    else:
        stdout().print(f"{count} records read", highlight=False)
    if broker.lost:
        lost = "; ".join(f"{digest}: {reason}" for digest, reason in broker.lost.items())
        raise StorageError(f"{len(broker.lost)} records cannot be read and were left out: {lost}")


@app.command("check", epilog=EXIT_CODES)
@reported
def check(data: Data, database: DatabaseUrl = None, store: StoreUrl = None, json_: Json = False) -> None:
    """Read every byte of the store and hold it against its name. Exit 9: something is damaged."""
    found = _open(data, database, store).damaged()
    if json_:
        print_json({"damaged": found})
    if found:
        raise StorageError(f"damaged: {', '.join(found)}; put them back from a copy, or publish them again")
    if not json_:
        stdout().print("all of it is what its name says", highlight=False)


def _open(data: Path, database: str | None, store: str | None) -> Broker:
    from m2kt_broker import Broker

    broker = Broker(settings_of(data, database, store))
    broker.start()
    return broker
