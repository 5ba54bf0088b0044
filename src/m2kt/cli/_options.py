"""Options that several verbs share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class DtypeName(StrEnum):
    """Types that weights may be loaded in."""

    auto = "auto"
    bf16 = "bf16"
    fp32 = "fp32"
    fp16 = "fp16"


Probes = Annotated[
    str,
    typer.Option("--probes", help="Probe spec: a YAML file, or the zoo: name of a teacher.", metavar="SPEC"),
]
Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Dtype = Annotated[
    DtypeName,
    typer.Option(
        help="Type of the weights; auto: bf16 for large models on devices that compute in it, else fp32."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
DeviceMap = Annotated[
    str | None, typer.Option("--device-map", help="For teachers on several devices: auto, balanced, ...")
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html", help="Write one HTML page with pictures, instead of text on stdout.", metavar="FILE"
    ),
]
Trust = Annotated[
    Path | None,
    typer.Option("--trust", help="Trust policy: whose signatures count, and how many.", metavar="TRUST.yaml"),
]
Key = Annotated[
    str, typer.Option("--key", help="Name of a key (m2kt keys list) or its PEM file.", metavar="KEY")
]
PACKET_HELP = "A packet's path, or a reference: m2kt://, oci://, hf://, s3://."
PacketPlace = Annotated[str, typer.Argument(help=PACKET_HELP, metavar="PACKET")]
StatementFile = Annotated[
    Path | None,
    typer.Option(
        "--statement",
        help="Also write what was found as a statement about the packet, signed by --key.",
        metavar="FILE",
    ),
]
