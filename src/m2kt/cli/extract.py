"""``m2kt extract TEACHER --probes SPEC --out PACKET``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from m2kt.cli._options import Device, DeviceMap, Dtype, DtypeName, Json, Probes, Seed
from m2kt.cli._output import percent, print_json, reported, stdout, working

NAME = "extract"


class Source(StrEnum):
    """Where concepts come from."""

    interrogation = "interrogation"
    clustering = "clustering"
    gradient = "gradient"
    probe = "probe"


@reported
def command(
    teacher: Annotated[str, typer.Argument(help="A directory, a Hub id, a fetched model, or a zoo: name.")],
    probes: Probes,
    out: Annotated[Path, typer.Option("--out", help="Packet directory, or a single file ending in .m2kp.")],
    verbalised: Annotated[
        float, typer.Option(min=0, max=1, help="Share v of rule rows whose output also travels as text.")
    ] = 0.0,
    concepts: Annotated[
        Source, typer.Option(help="How concepts are found and embedded.")
    ] = Source.interrogation,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = DtypeName.auto,
    device_map: DeviceMap = None,
    json_: Json = False,
) -> None:
    """Condense a teacher's skill into a signed knowledge packet."""
    with working() as progress:
        from m2kt import pipeline

        result = pipeline.extract(
            teacher,
            str(probes),
            out,
            verbalised=verbalised,
            concepts=concepts.value,
            seed=seed,
            device=device,
            dtype=dtype.value,
            device_map=device_map,
            progress=progress,
        )
    if json_:
        print_json(result)
        return
    stdout().print(result.packet, markup=False, highlight=False, soft_wrap=True)
    table = Table(show_header=False)
    for name, value in (
        ("concepts", f"{result.concepts} in {result.rules} rules"),
        ("skeletons", str(result.skeletons)),
        ("fidelity (agreement)", percent(result.fidelity, 2)),
        ("coverage", percent(result.coverage, 2)),
        ("probe accuracy", percent(result.probe_accuracy)),
        ("causal attention edges", percent(result.causal_edge_share)),
        ("teacher passes", f"{result.teacher_passes:,}"),
        ("bytes", f"{result.packet_bytes:,}"),
        ("seconds", f"{result.seconds:.1f}"),
    ):
        table.add_row(name, value)
    stdout().print(table)
    for note in result.notes:
        stdout().print(f"note: {note}", markup=False, highlight=False)
