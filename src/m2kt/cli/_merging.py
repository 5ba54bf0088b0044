"""``m2kt merge``, ``m2kt unmerge``, ``m2kt chain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2kt.cli._options import PACKET_HELP, Json, PacketReference, Trust
from m2kt.cli._output import reported, show, working

Out = typer.Option("--out", help="Packet directory, or a file that ends in .m2kp.", metavar="M")


@reported
def merge(
    packets: Annotated[list[str], typer.Argument(help=PACKET_HELP, metavar="A B ...")],
    out: Annotated[Path, Out],
    resolve: Annotated[
        str,
        typer.Option(
            help="How a row is decided that teachers contradict each other in: confidence, vote, dawid-skene, "
            "'prefer A' with one of the packets, or keep (undecided, kept as a dissent).",
            metavar="METHOD",
        ),
    ] = "confidence",
    min_confidence: Annotated[
        float, typer.Option(help="Rows below it are left to a teacher that is sure of them.", min=0, max=1)
    ] = 0.5,
    lineage: Annotated[
        list[str] | None,
        typer.Option("--lineage", help="Packets whose teachers are kin: A,B. Others are found.", metavar="A,B"),
    ] = None,
    trust: Trust = None,
    json_: Json = False,
) -> None:
    """Merge packets of one skill: alike rules become one, lineages vote on conflicts, every row says who supports it.

    The packets travel in the merged one, so that m2kt unmerge can take any of them out. Exit 7: they cannot be merged.
    """
    with working() as progress:
        from m2kt import pipeline

        groups = [group.split(",") for group in lineage or []]
        result = pipeline.merge(
            *packets,
            out=out,
            resolve=resolve,
            min_confidence=min_confidence,
            lineages=groups,
            trust=trust,
            progress=progress,
        )
    show(result, json_)


@reported
def unmerge(
    packet: PacketReference,
    without: Annotated[
        list[str], typer.Option("--without", help="The packet to take out: path, reference or digest.", metavar="B")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write; by default in place of PACKET.", metavar="M")
    ] = None,
    json_: Json = False,
) -> None:
    """Take packets out of a merged one: bit for bit what merging the others gives."""
    with working():
        from m2kt import pipeline

        result = pipeline.unmerge(packet, without, out=out)
    show(result, json_)


@reported
def chain(
    first: Annotated[str, typer.Argument(help=PACKET_HELP, metavar="A")],
    second: Annotated[str, typer.Argument(help="The packet that is asked about A's answer.", metavar="B")],
    question: Annotated[
        str, typer.Option(help="A question of B with {answer} where A's answer stands: '{answer} {answer}?'.")
    ],
    out: Annotated[Path, Out],
    then: Annotated[str, typer.Option(help="A word between A's answer and the question.")] = "Then",
    symbols: Annotated[
        list[str] | None, typer.Option("--symbol", help="A symbol that may be handed over; by default what A answers.")
    ] = None,
    json_: Json = False,
) -> None:
    """Make packet A end in a question of B about what it found: two skills in one answer, neither trained."""
    with working():
        from m2kt import pipeline

        result = pipeline.chain(first, second, question, out=out, then=then, symbols=symbols)
    show(result, json_)
