"""``m2kt pull DIGEST --out DIR``: get a packet from a broker, or from any place that a reference names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2kt.cli._options import Json, Trust
from m2kt.cli._output import print_json, reported, stderr, stdout, working

NAME = "pull"


@reported
def command(
    packet: Annotated[
        str,
        typer.Argument(help="Digest at the broker, or a reference: oci://, hf://, s3://.", metavar="DIGEST"),
    ],
    out: Annotated[Path, typer.Option("--out", help="Where it goes: a directory, or a .m2kp file.")],
    trust: Trust = None,
    json_: Json = False,
) -> None:
    """Bring a packet here, check all of it, and write it.

    A pull that was cut off goes on where it stopped. Exit 7: damaged. Exit 11: revoked, or not accepted by the trust
    policy; nothing is written then. Exit 12: the source refused or did not answer.
    """
    from m2kt.packet import TrustPolicy, judge_packet
    from m2kt.remote import is_reference, open_packet

    if trust is None:
        note = "note: where the packet comes from was not checked; --trust TRUST.yaml does"
        stderr().print(note, style="dim", highlight=False)
    policy = None if trust is None else TrustPolicy.from_file(trust)
    reference = packet if is_reference(packet) else f"m2kt://{packet}"
    with working() as progress:
        loaded = open_packet(reference, lambda done, size: progress("downloading", done, size))
        if policy is not None:
            judge_packet(loaded, policy).require(reference)
        loaded.save(out)
    if json_:
        print_json({"digest": loaded.digest, "packet": str(out), "reference": reference})
        return
    stdout().print(f"{loaded.digest} is at {out}", markup=False, highlight=False, soft_wrap=True)
