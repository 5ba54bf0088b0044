"""``m2kt diff A B``: what differs between two packets."""

from __future__ import annotations

from typing import Annotated

import typer

from m2kt.cli._options import PACKET_HELP, Html, Json
from m2kt.cli._output import print_json, reported, stderr, stdout

NAME = "diff"


@reported
def command(
    a: Annotated[str, typer.Argument(help=PACKET_HELP, metavar="A")],
    b: Annotated[str, typer.Argument(help="The packet to compare it with.", metavar="B")],
    html: Html = None,
    json_: Json = False,
) -> None:
    """Compare two packets: provenance, symbols, rules and what their rows say, vectors, shapes, fidelity.

    Exit 0 whenever they could be compared, alike or not.
    """
    from m2kt.packet import diff_packets
    from m2kt.remote import open_packet

    found = diff_packets(open_packet(a), open_packet(b))
    if html is not None:
        from m2kt.render import diff_page, save_page

        save_page(diff_page(found, str(a), str(b)), html)
        stderr().print(f"wrote {html}", style="dim", markup=False, highlight=False, soft_wrap=True)
    if json_:
        print_json(found)
    elif html is None:
        from m2kt.cli._render import section_views
        from m2kt.render import diff_sections

        for view in section_views(diff_sections(found)):
            stdout().print(view)
