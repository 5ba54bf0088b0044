"""``m2kt inspect PACKET``: what a packet holds, for people and for scripts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m2kt.cli._options import Html, Json, PacketPlace
from m2kt.cli._output import print_json, reported, stderr, stdout
from m2kt.errors import StorageError, explain

if TYPE_CHECKING:
    from m2kt.packet import Packet

NAME = "inspect"


@reported
def command(
    packet: PacketPlace,
    html: Html = None,
    bom: Annotated[
        Path | None,
        typer.Option("--bom", help="Write a CycloneDX 1.6 bill of materials, as JSON.", metavar="FILE"),
    ] = None,
    json_: Json = False,
) -> None:
    """Verify a packet and show its symbols, rules, graph, fidelity, ledger and signer."""
    from m2kt.packet import describe
    from m2kt.remote import open_packet

    loaded = open_packet(packet)
    if html is not None:
        from m2kt.render import packet_page, save_page

        save_page(packet_page(loaded), html)
        stderr().print(f"wrote {html}", style="dim", markup=False, highlight=False, soft_wrap=True)
    if bom is not None:
        _write_bom(loaded, bom)
    if json_:
        print_json(describe(loaded))
    elif html is None and bom is None:
        from m2kt.cli._render import packet_views

        console = stdout()
        for view in packet_views(loaded, describe(loaded), console.width):
            console.print(view)


def _write_bom(packet: Packet, path: Path) -> None:
    from m2kt.packet import bill_of_materials, canonical_json

    try:
        path.write_bytes(canonical_json(bill_of_materials(packet)))
    except OSError as error:
        raise StorageError(f"cannot write the bill of materials {path}: {explain(error)}") from error
    stderr().print(f"wrote {path}", style="dim", markup=False, highlight=False, soft_wrap=True)
