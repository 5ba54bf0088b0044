"""``m2kt publish PACKET``: give a packet to a broker."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from m2kt.cli._options import Json
from m2kt.cli._output import print_json, reported, stdout, working

NAME = "publish"


@reported
def command(
    packet: Annotated[Path, typer.Argument(help="Packet directory or .m2kp file.")], json_: Json = False
) -> None:
    """Verify a packet and upload it to the broker at M2KT_BROKER_URL, with the key in M2KT_API_KEY.

    Publishing again does no harm; with more signatures than before it adds them. Exit 12: the broker refused or
    did not answer.
    """
    from m2kt.packet import Packet
    from m2kt.remote import BrokerClient

    with working() as progress, BrokerClient() as broker, tempfile.TemporaryDirectory() as folder:
        loaded = Packet.load(packet)
        file = loaded.save(Path(folder) / "packet.m2kp")
        view = broker.publish(loaded.digest, file, lambda done, size: progress("uploading", done, size))
    if json_:
        print_json(view)
        return
    stdout().print(f"published {view['digest']}", markup=False, highlight=False, soft_wrap=True)
