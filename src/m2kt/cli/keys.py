"""``m2kt keys new NAME``, ``m2kt keys show [KEY]``, ``m2kt keys list``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from m2kt.cli._options import Json
from m2kt.cli._output import EXIT_CODES, print_json, reported, stdout

if TYPE_CHECKING:
    from m2kt.packet import KeyInfo

app = typer.Typer(help="Ed25519 signing keys under M2KT_HOME/keys.", no_args_is_help=True)


@app.command("new", epilog=EXIT_CODES)
@reported
def new(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Lock it; asked for, or taken from M2KT_PASSPHRASE.")
    ] = False,
    json_: Json = False,
) -> None:
    """Make a key, readable by its owner alone. Exit 9: the name is taken; nothing is ever overwritten."""
    from m2kt.packet import PASSPHRASE, new_key

    secret = None
    if passphrase:
        secret = os.environ.get(PASSPHRASE) or typer.prompt(
            "Passphrase", hide_input=True, confirmation_prompt=True, err=True
        )
    _print(new_key(name, secret), json_)


@app.command("show", epilog=EXIT_CODES)
@reported
def show(
    key: Annotated[str, typer.Argument(help="Name of a key or its PEM file.")] = "ed25519",
    json_: Json = False,
) -> None:
    """Print a key's id and its public half, as a trust policy wants them."""
    from m2kt.packet import show_key

    _print(show_key(key), json_)


@app.command("list", epilog=EXIT_CODES)
@reported
def list_(json_: Json = False) -> None:
    """All keys, without their private halves."""
    from m2kt.packet import list_keys

    keys = list_keys()
    if json_:
        print_json({"keys": [key.model_dump() for key in keys]})
        return
    table = Table("name", "key id", "locked")
    for key in keys:
        table.add_row(key.name, Text(key.keyid, overflow="fold"), "yes" if key.locked else "no")
    stdout().print(table)


def _print(key: KeyInfo, json_: bool) -> None:
    if json_:
        print_json(key)
        return
    indented = key.public_key.strip().replace("\n", "\n  ")
    for line in (f"keyid: {key.keyid}", "public_key: |", f"  {indented}"):
        stdout().print(line, markup=False, highlight=False, soft_wrap=True)
