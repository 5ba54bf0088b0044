"""``m2kt publish PACKET``: give a packet to a broker."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from m2kt.cli._options import Json, PacketPlace
from m2kt.cli._output import print_json, reported, stdout, working

NAME = "publish"


@reported
def command(
    packet: PacketPlace,
    receipt: Annotated[
        list[Path] | None,
        typer.Option(
            "--statement", help="A signed receipt, verdict or evaluation of it to post too.", metavar="FILE"
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Verify a packet and upload it to the broker at M2KT_BROKER_URL, with the key in M2KT_API_KEY.

    Publishing again does no harm: with more signatures than before it adds them, with --statement it says what
    came of the packet. Exit 12: the broker refused or did not answer.
    """
    from m2kt.packet import read_statement, verify_statement
    from m2kt.remote import BrokerClient, open_packet

    with working() as progress, BrokerClient() as broker, tempfile.TemporaryDirectory() as folder:
        loaded = open_packet(packet)
        statements = [read_statement(path) for path in receipt or []]
        for statement, path in zip(statements, receipt or [], strict=True):
            verify_statement(statement, str(path), packet=loaded.digest)
        file = loaded.save(Path(folder) / "packet.m2kp")
        broker.publish(loaded.digest, file, lambda done, size: progress("uploading", done, size))
        for statement in statements:
            broker.add_statement(loaded.digest, statement)
        view = broker.record(loaded.digest)
    if json_:
        print_json(view)
        return
    stdout().print(f"published {view['digest']}", markup=False, highlight=False, soft_wrap=True)
