"""``m2kt broker keys new|list|end`` and ``m2kt broker reindex|check``: administration on the broker's machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from m2kt.cli import EXIT_CODES, Json, print_json, reported, stderr, stdout
from m2kt.errors import StorageError

from ._options import Data, DatabaseUrl, StoreUrl

if TYPE_CHECKING:
    from m2kt_broker import Broker

app = typer.Typer(help="Administer a broker on its own machine: API keys and catalogue.", no_args_is_help=True)
keys = typer.Typer(help="API keys of a broker.", no_args_is_help=True)
app.add_typer(keys, name="keys")


class RoleName(StrEnum):
    """The role of an API key."""

    reader = "reader"
    publisher = "publisher"
    admin = "admin"


@keys.command("new", epilog=EXIT_CODES)
@reported
def new(
    name: Annotated[str, typer.Argument(help="Name of the key's holder.")],
    data: Data,
    role: Annotated[RoleName, typer.Option(help="reader may read, publisher may also write, admin may do everything.")],
    database: DatabaseUrl = None,
    store: StoreUrl = None,
    json_: Json = False,
) -> None:
    """Create an API key. It is printed once; the broker stores only its digest."""
    record, token = _open(data, database, store).create_key(name, role.value, by="m2kt broker keys")
    if json_:
        print_json({"id": record.id, "name": name, "role": role.value, "key": token})
        return
    stderr().print(f"{role.value} key of {name}, id {record.id}; printed only once:", style="dim", highlight=False)
    stdout().print(token, markup=False, highlight=False, soft_wrap=True)


@keys.command("list", epilog=EXIT_CODES)
@reported
def list_(data: Data, database: DatabaseUrl = None, store: StoreUrl = None, json_: Json = False) -> None:
    """List all API keys, ended ones included."""
    entries = _open(data, database, store).list_keys()
    if json_:
        print_json({"keys": entries})
        return
    table = Table("id", "name", "role", "created", "ended")
    for key in entries:
        table.add_row(key["id"], key["name"], key["role"], key["created_at"], key["ended_at"] or "-")
    stdout().print(table)


@keys.command("end", epilog=EXIT_CODES)
@reported
def end(
    identity: Annotated[str, typer.Argument(help="Id of the key; m2kt broker keys list prints it.", metavar="ID")],
    data: Data,
    database: DatabaseUrl = None,
    store: StoreUrl = None,
) -> None:
    """End an API key: from now on the broker rejects it."""
    _open(data, database, store).end_key(identity, by="m2kt broker keys")
    stderr().print(f"ended {identity}", style="dim", highlight=False)


@app.command("reindex", epilog=EXIT_CODES)
@reported
def reindex(data: Data, database: DatabaseUrl = None, store: StoreUrl = None, json_: Json = False) -> None:
    """Rebuild the database from the store. Stop the server first."""
    broker = _open(data, database, store)
    count, unreadable = broker.reindex(), broker.unreadable_records
    if json_:
        print_json({"records": count, "lost": unreadable})
    else:
        stdout().print(f"{count} records read", highlight=False)
    if unreadable:
        reasons = "; ".join(f"{digest}: {reason}" for digest, reason in unreadable.items())
        raise StorageError(f"{len(unreadable)} records cannot be read and were skipped: {reasons}")


@app.command("check", epilog=EXIT_CODES)
@reported
def check(data: Data, database: DatabaseUrl = None, store: StoreUrl = None, json_: Json = False) -> None:
    """Compare every byte of the store with its digest. Exit code 9: the store is damaged."""
    damaged = _open(data, database, store).find_damaged()
    if json_:
        print_json({"damaged": damaged})
    if damaged:
        raise StorageError(f"damaged: {', '.join(damaged)}; restore them from a backup, or publish them again")
    if not json_:
        stdout().print("no damage: all content matches its digest", highlight=False)


def _open(data: Path, database: str | None, store: str | None) -> Broker:
    from m2kt_broker import Broker, BrokerSettings

    broker = Broker(BrokerSettings(data=data, database=database, store=store))
    broker.start()
    return broker
