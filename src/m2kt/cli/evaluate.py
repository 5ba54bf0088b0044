"""``m2kt evaluate MODEL --probes SPEC``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from m2kt.cli._options import Device, Dtype, DtypeName, Json, Key, Probes, Seed, StatementFile
from m2kt.cli._output import interval, percent, print_json, reported, stdout, working
from m2kt.cli._trust import write_statement
from m2kt.errors import SpecError

if TYPE_CHECKING:
    from m2kt.packet import Packet

NAME = "evaluate"


@reported
def command(
    model: Annotated[str, typer.Argument(help="A directory, a Hub id, a fetched model, or a zoo: name.")],
    probes: Probes,
    adapter: Annotated[Path | None, typer.Option("--adapter", help="Adapter made by ingest.")] = None,
    labelled: Annotated[
        Path | None,
        typer.Option("--labelled", help='JSON lines of {"prompt", "answer"} instead of the spec\'s prompts.'),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="Also count agreement with this model.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Number of prompts.")] = 200,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Ask the shapes that are never probed.")
    ] = False,
    packet: Annotated[
        str | None, typer.Option("--packet", help="The packet that --statement is about.", metavar="PACKET")
    ] = None,
    statement: StatementFile = None,
    key: Key = "ed25519",
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = DtypeName.auto,
    json_: Json = False,
) -> None:
    """Ask a model evaluation prompts and count right answers, and agreement with a teacher."""
    if (packet is None) != (statement is None):
        raise SpecError("--packet and --statement go together: a statement is about a packet")
    of = None if packet is None else _packet(packet, adapter)
    with working() as progress:
        from m2kt import pipeline

        result = pipeline.evaluate(
            model,
            str(probes),
            adapter=adapter,
            labelled=labelled,
            teacher=teacher,
            n=n,
            held_out=held_out,
            seed=seed,
            device=device,
            dtype=dtype.value,
            progress=progress,
        )
    if of is not None and statement is not None:
        from m2kt.packet import EVALUATION

        write_statement(statement, of, EVALUATION, result, key)
    if json_:
        print_json(result)
        return
    table = Table(show_header=False)
    table.add_row("accuracy", f"{percent(result.accuracy)} {interval(result.interval)}")
    table.add_row("agreement with the teacher", percent(result.agreement))
    table.add_row("prompts", f"{result.n} ({result.judged} with a known answer)")
    stdout().print(table)
    for wrong in result.wrong[:5]:
        stdout().print(f"wrong: {wrong}", markup=False, highlight=False)


def _packet(place: str, adapter: Path | None) -> Packet:
    from m2kt.pipeline import about
    from m2kt.remote import open_packet

    packet = open_packet(place)
    if adapter is not None:
        about(adapter, packet)
    return packet
