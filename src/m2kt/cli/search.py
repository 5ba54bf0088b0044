"""``m2kt search TEXT``: which packets of a broker know a word, or say something like a concept."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from m2kt.cli._options import Json
from m2kt.cli._output import percent, print_json, reported, stdout
from m2kt.errors import SpecError

NAME = "search"


@reported
def command(
    text: Annotated[
        str | None, typer.Argument(help="Part of a symbol, rule, skill or teacher.", metavar="TEXT")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(help="A packet, whose concept --row is looked for instead.", metavar="PACKET"),
    ] = None,
    row: Annotated[int, typer.Option(min=0, help="Which of its concepts.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many at most.")] = 20,
    json_: Json = False,
) -> None:
    """Find packets at the broker by a word, or concepts near one of your packet's within its teacher's space.

    Revoked and yanked packets are not found. Exit 12: the broker refused or did not answer.
    """
    from m2kt.remote import BrokerClient

    if (text is None) == (like is None):
        raise SpecError("give a word to look for, or --like PACKET: one of the two")
    with BrokerClient() as broker:
        if like is not None:
            found = broker.near(*_example(like, row), limit)
        else:
            assert text is not None
            found = broker.search(text, limit)
    if json_:
        print_json(found)
    else:
        stdout().print(_near(found["near"]) if like is not None else _packets(found["found"]))


def _example(place: str, row: int) -> tuple[str, list[float]]:
    """The space of a packet, and one of its vectors."""
    from m2kt.remote import open_packet

    packet = open_packet(place)
    if row >= packet.n_concepts:
        raise SpecError(f"{place} has {packet.n_concepts} concepts, expected --row below that, came {row}")
    return packet.space, [float(x) for x in packet.concepts.vectors_KD[row]]


def _packets(found: list[dict[str, Any]]) -> Table:
    table = Table("digest", "skill", "teacher", "fidelity", "verdicts", "because of")
    for entry in found:
        packet = entry["packet"]
        verdicts = ", ".join(f"{count} {name}" for name, count in packet["verdicts"].items())
        labels = ", ".join(f"{x['kind']} {x['text']}" for x in entry["labels"])
        cells = (
            packet["digest"],
            packet["skill"],
            packet["teacher"],
            percent(packet["fidelity"]),
            verdicts,
            labels,
        )
        table.add_row(*(Text(cell or "-", overflow="fold") for cell in cells))
    return table


def _near(found: list[dict[str, Any]]) -> Table:
    table = Table("cosine", "concept", "skill", "packet")
    for near in found:
        cells = (f"{near['cosine']:.4f}", near["concept"], near["skill"], near["packet"])
        table.add_row(*(Text(cell, overflow="fold") for cell in cells))
    return table
