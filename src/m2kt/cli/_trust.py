"""What the verbs of trust share: passphrases and the table of a verdict."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from m2kt.cli._output import stderr, stdout

if TYPE_CHECKING:
    from pydantic import BaseModel

    from m2kt.packet import Packet, TrustVerdict


def ask_passphrase(path: Path) -> str | None:
    """The passphrase of a locked key, where the environment holds none and there is somebody to ask."""
    from m2kt.packet import PASSPHRASE, is_locked

    if not is_locked(path) or PASSPHRASE in os.environ or not sys.stdin.isatty():
        return None
    return str(typer.prompt(f"Passphrase of {path.stem}", hide_input=True, err=True))


def key_file(name: str) -> Path:
    """Where a key lies; the local one is made when it is used for the first time."""
    from m2kt.packet import key_path, local_key

    path = key_path(name)
    return local_key() if path == key_path() else path


def write_statement(path: Path, packet: Packet, kind: str, found: BaseModel, key: str) -> None:
    """What a verb reports, as a statement about a packet."""
    from m2kt.packet import read_signer
    from m2kt.pipeline import PREDICATES, signed, write_file

    file = key_file(key)
    signer = read_signer(file, ask_passphrase(file))
    predicate = PREDICATES[kind].model_validate(found.model_dump())
    write_file(path, signed(packet, kind, predicate, signer))
    stderr().print(f"wrote {path}", style="dim", markup=False, highlight=False, soft_wrap=True)


def print_verdict(verdict: TrustVerdict) -> None:
    """For people."""
    console = stdout()
    console.print("[green]trusted[/green]" if verdict.trusted else "[red]intact, not trusted[/red]")
    console.print(f"{verdict.kind} {verdict.packet}", markup=False, highlight=False, soft_wrap=True)
    table = Table("key", "owner", "roles", "state")
    for signer in verdict.signatures:
        table.add_row(
            Text(signer.keyid, overflow="fold"),
            Text(signer.owner or "-"),
            ", ".join(signer.roles),
            signer.state,
        )
    console.print(table)
    for reason in verdict.reasons:
        console.print(f"because: {reason}", markup=False, highlight=False)
