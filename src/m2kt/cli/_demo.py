"""``m2kt demo``: what went over, in the student's own words, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from m2kt.cli._options import Json, Seed
from m2kt.cli._output import print_json, reported, say, stdout, working

if TYPE_CHECKING:
    from m2kt.pipeline import DemoResult

_LEDGER = (
    "concepts",
    "packet_bytes",
    "labelled_examples",
    "teacher_passes",
    "teacher_tokens_in_packet",
    "rehearsal_sequences",
    "extract_seconds",
    "ingest_seconds",
)


@reported
def demo(
    student: Annotated[str, typer.Option("--student", help="The student.", metavar="NAME")] = "zoo:pico-gpt2",
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where packets and adapters are kept; by default M2KT_HOME/demo.", metavar="DIR"),
    ] = None,
    json_: Json = False,
) -> None:
    """Transfer the zoo's skills to a frozen student, then reject a spoiled packet and roll back."""
    with working() as progress:
        from m2kt import pipeline

        result = pipeline.demo(student=student, seed=seed, out=out, progress=progress)
    if json_:
        print_json(result.report())
        return
    for view in _views(result):
        stdout().print(view)
    say(*_next_steps(result))


def _views(result: DemoResult) -> Iterator[RenderableType]:
    """Skills, their ledgers, the spoiled packet, and one answer of each skill."""
    from m2kt.render import percent

    student = result.rows[0].student if result.rows else ""
    table = Table(title=f"student: {escape(student)}, frozen; right answers", title_justify="left")
    for heading in ("skill", "before", "after", "longer than probed", "teacher", "verdict"):
        table.add_column(heading)
    for row in result.rows:
        shares = (row.before, row.after, row.held_out, row.teacher)
        table.add_row(escape(row.skill), *map(percent, shares), _verdict(row.verdict))
    yield table
    ledger = Table("what it took", *(escape(row.skill) for row in result.rows), title_justify="left")
    for name in _LEDGER:
        ledger.add_row(name.replace("_", " "), *(f"{getattr(row, name):,}" for row in result.rows))
    for name in ("retention", "gap_recovered"):
        ledger.add_row(name.replace("_", " "), *(percent(getattr(row, name)) for row in result.rows))
    yield ledger
    yield _spoiled(result)
    yield from _said(result)
    yield Text(f"{result.seconds:.0f} seconds in all", style="dim")


def _spoiled(result: DemoResult) -> Table:
    rollback = result.rollback
    table = Table(show_header=False, title="secret again, from a packet whose vectors are noise", title_justify="left")
    table.add_row("verdict", _verdict(rollback.verdict.verdict))
    for reason in rollback.verdict.reasons:
        table.add_row("because", Text(reason, overflow="fold"))
    for diagnosis in rollback.verdict.diagnosis:
        table.add_row("diagnosis", Text(f"{diagnosis.name}. {diagnosis.says}", overflow="fold"))
    table.add_row("adapter before", Text(str(rollback.adapter_digest_before), overflow="fold"))
    table.add_row("adapter now", Text(str(rollback.adapter_digest), overflow="fold"))
    same = "equal: the adapter is restored bit for bit" if result.restored else "[red]they differ[/red]"
    table.add_row("digests", same)
    return table


def _said(result: DemoResult) -> Iterator[RenderableType]:
    """What the student says to a question that it never saw, before and after."""
    from m2kt.render import shown

    yield Text("in the student's own words, to a question that it was never asked before", style="bold")
    for row in result.rows:
        if row.sample is None:
            continue
        lines = Table.grid(padding=(0, 2))
        lines.add_row(Text(row.skill, style="bold"), Text("asked", style="dim"), Text(shown(row.sample.prompt)))
        before = Text(shown(_first_line(row.sample.before)) or "(nothing)", style="yellow", overflow="fold")
        lines.add_row("", Text("before", style="dim"), before)
        after = Text(shown(_first_line(row.sample.after)), style="bold cyan", overflow="fold")
        lines.add_row("", Text("after", style="dim"), after)
        yield lines


def _first_line(text: str) -> str:
    return text.strip("\n").split("\n")[0].strip()


def _next_steps(result: DemoResult) -> list[str]:
    """Commands that work as they stand, on the files that the demo kept."""
    row = next((row for row in result.rows if row.sample is not None), None)
    if row is None or row.sample is None or result.kept is None:
        return []
    adapter, packet = (shlex.quote(f"{result.kept}/{row.skill}.{kind}") for kind in ("adapter", "packet"))
    return [
        f"kept in {result.kept}. Next:",
        f"  m2kt explain {row.student} --adapter {adapter} {shlex.quote(row.sample.prompt)}",
        f"  m2kt chat {row.student} --adapter {adapter}",
        f"  m2kt inspect {packet}",
        '  m2kt probes new mine.yaml "a question" "another one"    # a skill of your own',
    ]


def _verdict(verdict: str) -> str:
    return f"[green]{verdict}[/green]" if verdict == "accepted" else f"[red]{verdict}, rolled back[/red]"
