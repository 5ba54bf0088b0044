"""``m2kt bench run|report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from m2kt.cli import (
    EXIT_CODES,
    Address,
    EngineOption,
    GpusPerWorker,
    Json,
    WorkersOption,
    cluster_of,
    print_json,
    reported,
    stdout,
    working,
)

app = typer.Typer(
    help="Claims under controls: skills x students x seeds x experiments, and the report.",
    no_args_is_help=True,
)


@app.command("run", epilog=EXIT_CODES)
@reported
def run(
    profile: Annotated[str, typer.Argument(help="quick, full, or a YAML file.")] = "quick",
    results: Annotated[
        Path | None,
        typer.Option("--results", help="Folder of the results [benchmarks/results/PROFILE].", metavar="DIR"),
    ] = None,
    work: Annotated[
        Path,
        typer.Option("--work", help="Artifact cache: packets and adapters that cells share.", metavar="DIR"),
    ] = Path("benchmarks/work"),
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Worker processes.")] = 1,
    arm: Annotated[list[str] | None, typer.Option("--arm", help="Only these experiments.")] = None,
    skill: Annotated[list[str] | None, typer.Option("--skill", help="Only these skills.")] = None,
    student: Annotated[list[str] | None, typer.Option("--student", help="Only these students.")] = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", help="Only these seeds.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run refused cells again.")] = False,
    engine: EngineOption = "local",
    address: Address = None,
    workers: WorkersOption = None,
    gpus_per_worker: GpusPerWorker = 0,
    json_: Json = False,
) -> None:
    """Run all cells of a profile that have no result yet, so that a stopped run can resume.

    Exit 1: cells failed; they run again next time.
    """
    import benchmarks as bench

    plan = bench.read_profile(profile)
    with working() as progress:
        summary = bench.run(
            plan,
            results or Path("benchmarks/results") / plan.name,
            work,
            jobs=jobs,
            retry=retry,
            cluster=cluster_of(engine, address, workers, gpus_per_worker),
            keep=lambda c: (
                (not arm or c.arm in arm)
                and (not skill or c.skill in skill)
                and (not student or c.student in student)
                and (not seed or c.seed in seed)
            ),
            progress=progress,
        )
    if json_:
        print_json(summary)
    else:
        table = Table(show_header=False)
        for name, value in summary.model_dump().items():
            table.add_row(name, str(value))
        stdout().print(table)
    if summary.failed:
        raise typer.Exit(1)


@app.command("report", epilog=EXIT_CODES)
@reported
def report(
    results: Annotated[Path, typer.Argument(help="Folder of results; all below it are read.")] = Path(
        "benchmarks/results/quick"
    ),
    student: Annotated[
        str | None,
        typer.Option("--student", help="The student of the headline [the pretrained student]."),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write one page.", metavar="FILE")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write the tables.", metavar="FILE")] = None,
    json_: Json = False,
) -> None:
    """Print the headline of a bench's results; write all of them as a page or as tables."""
    import benchmarks as bench
    from benchmarks import report as reports
    from m2kt.errors import SpecError, StorageError, explain

    with working():
        cells = bench.read_results(results)
        if not cells:
            raise SpecError(f"no results below {results}: run m2kt bench run first, or name their folder")
        headline = reports.headline(cells, student or reports.headline_student(cells))
        if html is not None:
            reports.write_html(cells, html)
        if markdown is not None:
            try:
                markdown.write_text(reports.markdown(cells), encoding="utf-8")
            except OSError as error:
                raise StorageError(f"cannot write the tables to {markdown}: {explain(error)}") from error
    if json_:
        print_json(headline)
        return
    table = Table(show_header=False)
    for name, value in headline.model_dump().items():
        table.add_row(name, "not measured" if value is None else f"{value:.4g}")
    stdout().print(table)
    for path in (html, markdown):
        if path is not None:
            stdout().print(str(path), markup=False, highlight=False)
