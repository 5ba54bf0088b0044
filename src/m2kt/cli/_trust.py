"""``m2kt sign``, ``m2kt verify``, ``m2kt keys``; passphrases of locked keys."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from m2kt.cli._options import Json, Key, Trust
from m2kt.cli._output import EXIT_CODES, note, print_json, reported, say, stdout
from m2kt.errors import TrustError

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

    from m2kt.packet import KeyInfo

keys = typer.Typer(help="Ed25519 signing keys under M2KT_HOME/keys.", no_args_is_help=True)


def passphrase_of(key: Path) -> str | None:
    """Asks for the passphrase of a locked key, unless the environment holds it or there is no terminal."""
    from m2kt.packet import PASSPHRASE, is_locked

    if not is_locked(key) or PASSPHRASE in os.environ or not sys.stdin.isatty():
        return None
    return str(typer.prompt(f"Passphrase of {key.stem}", hide_input=True, err=True))


def signer_of(key: str) -> CryptoSigner:
    """A key by name or path, ready to sign."""
    from m2kt.packet import read_signer
    from m2kt.pipeline import key_file

    path = key_file(key)
    return read_signer(path, passphrase_of(path))


@reported
def sign(
    packet: Annotated[Path, typer.Argument(help="Packet directory or .m2kp file.")],
    key: Key = "ed25519",
    release: Annotated[
        int | None, typer.Option(min=1, help="Sign anew as this release; readers then refuse earlier ones.")
    ] = None,
    expires: Annotated[
        datetime | None, typer.Option(help="With --release: from then on readers expect a newer one; UTC.")
    ] = None,
    json_: Json = False,
) -> None:
    """Add a signature to a packet, or sign it anew as a release. Its digest and parts stay as they are.

    A locked key asks for its passphrase, or takes it from M2KT_PASSPHRASE. Exit 7: the packet is damaged, or
    signed by this key already. Exit 9: the key cannot be used.
    """
    from m2kt import pipeline

    path = pipeline.key_file(key)
    signed = pipeline.sign(packet, path, passphrase_of(path), release=release, expires=expires)
    if json_:
        print_json(signed)
    else:
        say(f"{signed.packet} ({signed.digest}) is signed by", *signed.signers)


class FormName(StrEnum):
    """A predicate of in-toto."""

    test_result = "test-result"
    svr = "svr"


@reported
def attest(
    statement: Annotated[Path, typer.Argument(help="A receipt, or the statement of an audit.", metavar="FILE")],
    out: Annotated[Path, typer.Option("--out", help="File of the attestation.", metavar="FILE")],
    form: Annotated[
        FormName, typer.Option("--form", help="What passed and failed, or the properties that were verified.")
    ] = FormName.test_result,
    key: Key = "ed25519",
    json_: Json = False,
) -> None:
    """Write a receipt or an audit's verdict as an in-toto attestation, for tools that know these predicates.

    Exit 7: the statement does not verify. Exit 9: the key cannot be used, or the file not be written.
    """
    from m2kt import pipeline

    attested = pipeline.attest(statement, out, form=form.value, key=signer_of(key))
    if json_:
        print_json(attested)
    else:
        say(f"{attested.path}: {attested.predicate_type}, {'passed' if attested.passed else 'failed'}")


@reported
def verify(
    file: Annotated[
        str,
        typer.Argument(help="A packet or its reference, an adapter, or a signed statement: receipt.json."),
    ],
    trust: Trust = None,
    at: Annotated[
        datetime | None,
        typer.Option(help="Check expiry against this time (UTC) instead of now.", metavar="TIME"),
    ] = None,
    packet: Annotated[
        str | None,
        typer.Option("--packet", help="Of an adapter: the packet it must come from.", metavar="PACKET"),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option("--student", help="Of an adapter: its base model.", metavar="MODEL"),
    ] = None,
    json_: Json = False,
) -> None:
    """Check every signature of a packet or statement, and the signers by a trust policy.

    An adapter: its receipt must be about its files, and about the packet and model that are named.

    Exit 0: intact and trusted. Exit 7: damaged or edited. Exit 11: intact and not trusted; without --trust
    nothing is trusted.
    """
    from m2kt import pipeline

    verdict = pipeline.verify(file, trust, packet=packet, student=student, at=at)
    if json_:
        print_json(verdict)
    else:
        stdout().print("[green]trusted[/green]" if verdict.trusted else "[red]intact, not trusted[/red]")
        say(f"{verdict.kind} {verdict.packet}")
        table = Table("key", "owner", "roles", "state")
        for signer in verdict.signatures:
            keyid, owner = Text(signer.keyid, overflow="fold"), Text(signer.owner or "-")
            table.add_row(keyid, owner, ", ".join(signer.roles), signer.state)
        stdout().print(table)
        for reason in verdict.reasons:
            stdout().print(f"because: {reason}", markup=False, highlight=False)
    if not verdict.trusted:
        raise typer.Exit(TrustError.exit_code)


@keys.command("new", epilog=EXIT_CODES)
@reported
def new(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Lock it; asked for, or taken from M2KT_PASSPHRASE.")
    ] = False,
    json_: Json = False,
) -> None:
    """Create a key, readable by its owner alone. Exit 9: the name is taken; nothing is overwritten."""
    from m2kt._home import check_home
    from m2kt.packet import PASSPHRASE, new_key

    check_home()
    secret = None
    if passphrase:
        secret = os.environ.get(PASSPHRASE) or typer.prompt(
            "Passphrase", hide_input=True, confirmation_prompt=True, err=True
        )
    _show(new_key(name, secret), json_)


@keys.command("show", epilog=EXIT_CODES)
@reported
def show(
    key: Annotated[str, typer.Argument(help="Name of a key or its PEM file.")] = "ed25519",
    json_: Json = False,
) -> None:
    """Print a key's id and its public half, in the form of a trust policy."""
    from m2kt.packet import show_key

    _show(show_key(key), json_)


@keys.command("list", epilog=EXIT_CODES)
@reported
def list_(json_: Json = False) -> None:
    """List all keys, without their private halves."""
    from m2kt.packet import foreign_keys, list_keys

    known = list_keys()
    for reason in foreign_keys():
        note(f"left out: {reason}")
    if json_:
        print_json({"keys": [key.model_dump() for key in known]})
        return
    table = Table("name", "key id", "locked")
    for key in known:
        table.add_row(key.name, Text(key.keyid, overflow="fold"), "yes" if key.locked else "no")
    stdout().print(table)


def _show(key: KeyInfo, json_: bool) -> None:
    if json_:
        print_json(key)
        return
    indented = key.public_key.strip().replace("\n", "\n  ")
    say(f"keyid: {key.keyid}", "public_key: |", f"  {indented}")
