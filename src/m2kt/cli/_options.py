"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from m2kt._cluster import Cluster
from m2kt.errors import SpecError

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
EngineName = Literal["local", "ray"]
EngineOption = Annotated[
    EngineName,
    typer.Option("--engine", help="What computes: this process, or Ray's workers (pip install 'm2kt[ray]')."),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="With --engine ray: the cluster's address, auto for the one of this machine; by default a Ray of its own.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="With --engine ray; as many as there is room for by default."),
]
GpusPerWorker = Annotated[
    float, typer.Option("--gpus-per-worker", min=0, help="With --engine ray: GPUs of each worker, or a share of one.")
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


def cluster_of(
    engine: EngineName, address: str | None, workers: int | None, gpus_per_worker: float, seeds: int | None = None
) -> Cluster | None:
    """The cluster that the options name; None: this process.

    Raises:
        SpecError: options of a cluster without one.
    """
    if engine == "ray":
        return Cluster(address, workers, gpus_per_worker)
    given = {"--address": address, "--workers": workers, "--gpus-per-worker": gpus_per_worker or None, "--seeds": seeds}
    unused = [name for name, value in given.items() if value is not None]
    if unused:
        raise SpecError(f"{unused[0]} is an option of --engine ray; add that, or leave {unused[0]} out")
    return None
