"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

PACKET_HELP = "A packet's path, or a reference: m2kt://, oci://, hf://, s3://."
MODEL_HELP = "A directory, a Hub id, a fetched model, or a zoo: name."

PacketReference = Annotated[str, typer.Argument(help=PACKET_HELP, metavar="PACKET")]
Model = Annotated[str, typer.Argument(help=MODEL_HELP)]
Probes = Annotated[
    str,
    typer.Option("--probes", help="Probe spec: a YAML file, or the zoo: name of a teacher.", metavar="SPEC"),
]
TruthProbes = Annotated[
    str | None,
    typer.Option("--probes", help="Probe spec with a truth, for a verdict by truth.", metavar="SPEC"),
]
IngestConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Settings of the student side, the auditor and the verdict, YAML (docs/schemas/ingest-config).",
        metavar="CAL.yaml",
    ),
]
DepthOption = Annotated[
    Literal["executed", "learned"] | None,
    typer.Option(
        "--depth",
        help="Where the procedure lives: in a reader that runs the packet's program, or in a reader's trained weights; "
        "by default as --config says, else executed.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of all random draws.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Dtype = Annotated[
    Literal["auto", "bf16", "fp32", "fp16"],
    typer.Option(
        help="Data type of the weights; auto: bf16 for large models on devices that compute in it, else fp32."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Html = Annotated[
    Path | None,
    typer.Option("--html", help="Write an HTML page with pictures, instead of text on stdout.", metavar="FILE"),
]
Trust = Annotated[
    Path | None,
    typer.Option("--trust", help="Trust policy: whose signatures count, and how many.", metavar="TRUST.yaml"),
]
Key = Annotated[str, typer.Option("--key", help="Name of a key (m2kt keys list) or its PEM file.", metavar="KEY")]
StatementFile = Annotated[
    Path | None,
    typer.Option(
        "--statement",
        help="Also write the result as a statement about the packet, signed by --key.",
        metavar="FILE",
    ),
]
