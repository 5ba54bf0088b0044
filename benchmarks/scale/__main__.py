"""``python -m benchmarks.scale``: the numbers of docs/scale.md."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from benchmarks.scale._engines import parallel_efficiency
from benchmarks.scale._extraction import measured
from m2kt.teacher import ExtractionConfig

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def driver(
    workers: Annotated[int, typer.Option(min=1)] = 32,
    latency: Annotated[float, typer.Option(help="Seconds of a batch.")] = 0.5,
    calls: Annotated[int, typer.Option(help="Batches for each worker.")] = 40,
) -> None:
    """Parallel efficiency of the driver, with workers that only wait."""
    typer.echo(json.dumps(parallel_efficiency(workers, latency, calls)))


@app.command()
def extraction(
    teacher: str,
    probes: str,
    per_template: Annotated[int, typer.Option(help="Probes per template; the rest follows from it.")] = 80,
    dtype: Literal["auto", "bf16", "fp32", "fp16"] = "auto",
) -> None:
    """Time in the model and outside of it, tokens computed and saved."""
    config = ExtractionConfig(
        probes_per_template=per_template,
        rounds=3,
        checked_per_template=max(1, per_template // 3),
        fidelity_prompts=per_template,
    )
    typer.echo(json.dumps(measured(teacher, probes, config, dtype)))


app()
