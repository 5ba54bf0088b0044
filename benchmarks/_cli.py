"""``m2kt bench run|report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from m2kt.cli._options import Json
from m2kt.cli._output import EXIT_CODES, print_json, reported, stdout, working

app = typer.Typer(
    help="Claims under controls: skills x students x seeds x arms, and the report.", no_args_is_help=True
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
        Path, typer.Option("--work", help="Packets and adapters that cells share.", metavar="DIR")
    ] = Path("benchmarks/work"),
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Worker processes.")] = 1,
    arm: Annotated[list[str] | None, typer.Option("--arm", help="Only these arms.")] = None,
    skill: Annotated[list[str] | None, typer.Option("--skill", help="Only these skills.")] = None,
    student: Annotated[list[str] | None, typer.Option("--student", help="Only these students.")] = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", help="Only these seeds.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run refused cells again.")] = False,
    json_: Json = False,
) -> None:
    """Run all cells of a profile that have no result yet. A run that was stopped goes on where it was.

    Exit 1: cells failed; they are run again next time.
    """
    import benchmarks as bench

    chosen = bench.read_profile(profile)
    with working() as progress:
        summary = bench.run(
            chosen,
            results or Path("benchmarks/results") / chosen.name,
            work,
            jobs=jobs,
            retry=retry,
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
        typer.Option("--student", help="The student of the headline [the one that is not of the zoo]."),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write one page.", metavar="FILE")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write the tables.", metavar="FILE")
    ] = None,
    json_: Json = False,
) -> None:
    """Say what the results of a bench say: the headline here, everything in a page or in tables."""
    import benchmarks as bench
    from benchmarks import report as room
    from m2kt.errors import SpecError, StorageError, explain

    with working():
        found = bench.read_results(results)
        if not found:
            raise SpecError(f"no results below {results}: run m2kt bench run first, or name their folder")
        headline = room.headline(found, student or room.headline_student(found))
        if html is not None:
            room.write_html(found, html)
        if markdown is not None:
            try:
                markdown.write_text(room.markdown(found), encoding="utf-8")
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
