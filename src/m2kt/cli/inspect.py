"""``m2kt inspect PACKET``: what a packet holds, for people and for scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2kt.cli._options import Html, Json
from m2kt.cli._output import print_json, reported, stderr, stdout

NAME = "inspect"


@reported
def command(
    packet: Annotated[Path, typer.Argument(help="Packet directory or .m2kp file.")],
    html: Html = None,
    json_: Json = False,
) -> None:
    """Verify a packet and show its symbols, rules, graph, fidelity, ledger and signer."""
    from m2kt.packet import Packet, describe

    loaded = Packet.load(packet)
    if html is not None:
        from m2kt.render import packet_page, save_page

        save_page(packet_page(loaded), html)
        stderr().print(f"wrote {html}", style="dim", markup=False, highlight=False, soft_wrap=True)
    if json_:
        print_json(describe(loaded))
    elif html is None:
        from m2kt.cli._render import packet_views

        console = stdout()
        for view in packet_views(loaded, describe(loaded), console.width):
            console.print(view)
