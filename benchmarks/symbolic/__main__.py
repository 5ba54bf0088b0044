"""``python -m benchmarks.symbolic [FILE.py] [--json]``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.symbolic._door import Outcome, load_file, run, select, shipped
from m2kt.cli import print_json, reported, stdout

_COLUMNS = ("coverage", "agreement", "longer", "states", "rules", "seconds")
_HELP = """Run tasks through extraction with a perfect teacher: their functions.

FILE.py has a dict FORMATS, name -> (slots, templates, held_out, answer_regex, function). slots: name -> list of values;
templates and held_out: texts with {slot} or {name=slot} holes; function(prompt) -> the whole answer without its stop, a
line feed. It may have a dict WRITERS, name -> function(prompt, pen), the same tasks written unit by unit: pen.t(text)
writes structure, pen.s(symbol) writes a symbol and returns the one that stands there. Without FILE: the shipped suite.

longer is coverage x agreement on the held-out templates. A task that cannot be run, or whose function raises, has the
reason as its refusal, and the run goes on."""


def main(
    file: Annotated[Path | None, typer.Argument(help="A Python file with FORMATS.", metavar="FILE.py")] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="Print one JSON list on stdout and nothing else there.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Only tasks whose name contains this, or matches it as a glob; repeatable."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Worker processes.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Seed of all random draws.")] = 0,
    list_: Annotated[bool, typer.Option("--list", help="Print the tasks' names and run nothing.")] = False,
) -> None:
    tasks = select(shipped() if file is None else load_file(file), only or [])
    if list_:
        if json_:
            print_json([task.name for task in tasks])
        else:
            _say(*(task.name for task in tasks))
        return
    width = max(len(task.name) for task in tasks)
    if not json_:
        _say(f"{'task':{width}}" + "".join(f"{name:>11}" for name in _COLUMNS))
    outcomes: dict[str, Outcome] = {}
    for outcome in run(tasks, file, jobs=jobs, seed=seed):
        outcomes[outcome.name] = outcome
        if not json_:
            _say(_row(outcome, width, f"[{len(outcomes)}/{len(tasks)}]"))
    if json_:
        print_json([vars(outcomes[task.name]) for task in tasks])
    else:
        _say(_summary(list(outcomes.values())))


def _row(outcome: Outcome, width: int, progress: str) -> str:
    cells = "".join(f"{_cell(getattr(outcome, name)):>11}" for name in _COLUMNS)
    refusal = f"  {outcome.refusal}" if outcome.refusal else ""
    return f"{outcome.name:{width}}{cells}  {progress}{refusal}"


def _cell(value: float | int | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"


def _summary(outcomes: Sequence[Outcome]) -> str:
    longer = [outcome.longer or 0.0 for outcome in outcomes]
    refused = sum(outcome.refusal is not None for outcome in outcomes)
    whole = sum(share >= 1.0 for share in longer)
    return f"{len(outcomes)} tasks, {refused} refused; longer: mean {sum(longer) / len(longer):.3f}, 1.000 for {whole}"


def _say(*lines: str) -> None:
    for line in lines:
        stdout().print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=re.sub(r"(?<!\n)\n(?!\n)", " ", _HELP))(reported(main))
    app(prog_name="python -m benchmarks.symbolic")
