"""``m2kt pull DIGEST --out DIR``: get a packet from a broker, or from any place that a reference names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2kt.cli._options import Json
from m2kt.cli._output import print_json, reported, stdout, working

NAME = "pull"


@reported
def command(
    packet: Annotated[
        str,
        typer.Argument(help="Digest at the broker, or a reference: oci://, hf://, s3://.", metavar="DIGEST"),
    ],
    out: Annotated[Path, typer.Option("--out", help="Where it goes: a directory, or a .m2kp file.")],
    json_: Json = False,
) -> None:
    """Bring a packet here, check all of it, and write it."""
    from m2kt.packet import Packet
    from m2kt.remote import is_reference, local_packet

    reference = packet if is_reference(packet) else f"m2kt://{packet}"
    with working() as progress:
        path = local_packet(reference, lambda done, size: progress("downloading", done, size))
        loaded = Packet.load(path)
        loaded.save(out)
    if json_:
        print_json({"digest": loaded.digest, "packet": str(out), "reference": reference})
        return
    stdout().print(f"{loaded.digest} is at {out}", markup=False, highlight=False, soft_wrap=True)
