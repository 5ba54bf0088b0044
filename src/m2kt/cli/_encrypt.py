"""``m2kt encrypt``, ``m2kt decrypt``, ``m2kt keys recipient``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2kt.cli._options import Json, PacketReference
from m2kt.cli._output import EXIT_CODES, print_json, reported, say
from m2kt.cli._trust import keys


@reported
def encrypt(
    packet: PacketReference,
    to: Annotated[list[str], typer.Option("--to", help="A recipient, age1...; may be repeated.", metavar="RECIPIENT")],
    out: Annotated[Path, typer.Option("--out", help="A file that ends in .age.", metavar="FILE")],
    json_: Json = False,
) -> None:
    """Encrypt a signed packet with age for named recipients. Every verb opens it as any packet, where it may."""
    from m2kt import pipeline

    result = pipeline.encrypt(packet, to, out)
    print_json(result) if json_ else say(f"{result.packet} for {len(result.recipients)} recipients: {result.path}")


@reported
def decrypt(
    packet: Annotated[str, typer.Argument(help="An encrypted packet, FILE.age.", metavar="FILE")],
    out: Annotated[Path, typer.Option("--out", help="Packet directory, or a file that ends in .m2kp.", metavar="OUT")],
    json_: Json = False,
) -> None:
    """Write an encrypted packet as a plain one. Exit 7: it is for others, or does not verify."""
    from m2kt import pipeline

    result = pipeline.decrypt(packet, out)
    print_json(result) if json_ else say(f"{result.packet}: {result.path}")


@keys.command("recipient", epilog=EXIT_CODES)
@reported
def recipient(json_: Json = False) -> None:
    """Print this user's age recipient, to which others encrypt packets; its identity is made on first use."""
    from m2kt._home import check_home
    from m2kt.packet import identity_file, local_recipient

    check_home()
    address = local_recipient()
    print_json({"recipient": address, "identity": str(identity_file())}) if json_ else say(address)
