"""The tables of docs/results.md that are made from committed results: ``python -m benchmarks.tables [--check]``.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``; a test checks that it is current.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks._cells import Cell, Measured, read_results
from benchmarks.report._frame import is_headline, overall
from m2kt.errors import StorageError
from m2kt.render import Cell as RenderCell
from m2kt.render import Table, markdown_of

ROOT = Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "docs" / "results.md", ROOT / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)

app = typer.Typer()
Runs = dict[tuple[str, str, str], Measured]
"""By skill, student and experiment."""


def _runs(folder: str, seed: int) -> Runs:
    """What was measured; of experiment m2kt the cells at v = 0."""
    found: Runs = {}
    for result in read_results(RESULTS / folder):
        if result.measured is None or result.cell.seed != seed or not _is_plain(result.cell):
            continue
        found[result.cell.skill, result.cell.student, result.cell.arm] = result.measured
    return found


def _is_plain(cell: Cell) -> bool:
    return is_headline(cell) or cell.arm != "m2kt"


def _number(share: float, digits: int) -> str:
    """In percent, without zeros behind the point."""
    return f"{100 * share:.{digits}f}".rstrip("0").rstrip(".")


def _share(share: float | None, digits: int = 2) -> str:
    return "–" if share is None else _number(share, digits) + " %"


def _interval(measured: Measured) -> str:
    limits = ", ".join(_number(limit, 1) for limit in measured.interval or ())
    return f"{_share(measured.after)} [{limits}]"


def _mean(values: Iterable[float | None]) -> float:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers)


def executed() -> str:
    """The default depth on eight skills: a real student, and controls on a tiny one."""
    tiny, real = "zoo:pico-gpt2", "smollm2-135m"
    runs = _runs("executed", seed=0)
    skills = sorted({skill for skill, _, _ in runs})
    controls = ("none", "shuffled", "random", "wrong", "random_core")
    rows: list[list[RenderCell | str]] = []
    for skill in skills:
        into, here = runs[skill, real, "m2kt"], [runs[skill, tiny, arm] for arm in controls]
        longer = ", ".join(_share(shape.accuracy) for shape in into.held_out)
        told = [_share(m.after) for m in (runs[skill, tiny, "m2kt"], *here)]
        told[2] += f" ({_share(here[1].followed)})"
        rows.append([skill, _share(into.before), _interval(into), longer, f"{into.ledger.train_seconds:.0f} s", *told])
    means = [_share(_mean(runs[s, student, arm].after for s in skills))
             for student, arm in ((real, "m2kt"), (tiny, "m2kt"), *((tiny, arm) for arm in controls))]  # fmt: skip
    rows.append(["mean", "", means[0], "", "", *means[1:]])
    head = ["skill", "SmolLM2 before", "after [95 %]", "shapes never asked, each", "fitted in", "tiny student",
            "no packet", "shuffled: truth (followed)", "noise", "wrong packet", "random core"]  # fmt: skip
    return markdown_of(Table(head, rows))


def learned() -> str:
    """A reader that learns to run the program, on SmolLM2-135M."""
    runs = {skill: m for (skill, student, arm), m in _runs("full", seed=0).items()
            if student == "smollm2-135m" and arm == "m2kt" and "-" not in skill}  # fmt: skip
    rows: list[list[RenderCell | str]] = []
    for skill, m in sorted(runs.items(), key=lambda item: (-(item[1].after or 0.0), item[0])):
        steps = (m.steps or {}).get("latent")
        rows.append([skill, _share(m.before), _interval(m), _share(steps, 1),
                     f"{m.ledger.core_tokens:,.0f}", _share(overall(m.held_out))])  # fmt: skip
    after, tokens = _mean(m.after for m in runs.values()), _mean(m.ledger.core_tokens for m in runs.values())
    rows.append(["mean", "", _share(after), "", f"{tokens:,.0f}", ""])
    head = ["skill", "before", "after [95 %]", "single latent steps", "whole-pass tokens", "longer shape"]
    return markdown_of(Table(head, rows))


TABLES: dict[str, Callable[[], str]] = {"executed": executed, "learned": learned}


def current(page: str) -> str:
    """The page with each table as the results have it. Raises StorageError for a table that nobody makes."""

    def made(found: re.Match[str]) -> str:
        if found["name"] not in TABLES:
            raise StorageError(f"expected a table of {', '.join(TABLES)}, got {found['name']} in {PAGE.name}")
        return f"{found[1]}\n{TABLES[found['name']]()}\n\n{found[3]}"

    return BLOCK.sub(made, page)


@app.command()
def main(
    check: Annotated[bool, typer.Option(help="Write nothing; exit 1 where a table is not current.")] = False,
) -> None:
    """Write the tables of docs/results.md anew from benchmarks/results."""
    page = PAGE.read_text(encoding="utf-8")
    new = current(page)
    if check and new != page:
        typer.echo(f"{PAGE} is not what the results say; run python -m benchmarks.tables", err=True)
        raise typer.Exit(1)
    if not check:
        PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    app()
