"""``python -m benchmarks.scale``: the numbers of docs/scale.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmarks.scale._cost import CostModel, Run, predicted
from benchmarks.scale._device import on_device
from benchmarks.scale._engines import parallel_efficiency
from benchmarks.scale._extraction import measured
from m2kt.teacher import ExtractionConfig

PROBES = 900  # three templates at the default
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
        floor=0,  # a cost is one whatever the packet is worth
        probes_per_template=per_template,
        rounds=3,
        checked_per_template=max(1, per_template // 3),
        fidelity_prompts=per_template,
    )
    typer.echo(json.dumps(measured(teacher, probes, config, dtype)))


@app.command()
def cost(
    runs: Annotated[list[Path], typer.Argument(help="Files that hold what extraction printed.")],
    held_out: Annotated[Path, typer.Option(help="A run that is not used for the fit.")],
) -> None:
    """Fit the cost model on runs, check it on another one, and predict what could not be measured."""
    model = CostModel.fit([_read(path) for path in runs])
    checked = _read(held_out)
    seconds = model.seconds(checked.probes, checked.parameters)
    report = {
        "predicted": round(seconds, 1),
        "measured": checked.seconds,
        "off": round(seconds / checked.seconds - 1, 3),
        "predictions": [
            predicted(model, PROBES, parameters, gpus).model_dump()
            for parameters in (7e9, 70e9, 405e9)
            for gpus in (1, 8, 64)
        ],
    }
    typer.echo(json.dumps(report, indent=1))


@app.command()
def device(
    name: Annotated[str, typer.Argument(help="cuda or cpu.")],
    model: Annotated[str, typer.Option(help="Of the generation benchmark.")] = "zoo:addition",
    prompts: Annotated[int, typer.Option(help="Of the generation benchmark.")] = 64,
) -> None:
    """Extraction, ingestion and generation on a device, compared with the CPU in fp32."""
    for line in on_device(name, model, prompts):
        typer.echo(json.dumps(line))


def _read(path: Path) -> Run:
    return Run.model_validate_json(path.read_text(encoding="utf-8"))


app()
