"""Output of all verbs: results on stdout, progress, notes and errors on stderr, exit codes."""

from __future__ import annotations

import codecs
import contextlib
import functools
import io
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from m2kt._libraries import quieten
from m2kt.errors import M2KTError, printable

if TYPE_CHECKING:
    from m2kt.pipeline import Result

REJECTED = 5
EXIT_CODES = (
    "Exit codes: 0 done (ingest: accepted), 2 usage, 3 probe spec or configuration, 4 model, "
    "5 rejected and rolled back, 6 extraction, 7 packet, 8 student unfit for the packet, 9 storage, "
    "10 training, 11 not trusted, 12 broker or network, 1 any other failure."
)
ASCII = {
    "□": "_", "→": ">", "·": ".", "–": "-", "…": "~", "“": '"', "”": '"', "⏎": "$", "␣": "_", "×": "x",
}  # fmt: skip
"""Our own marks on a terminal without them, of the same width so that tables stay aligned."""

P = ParamSpec("P")
R = TypeVar("R")


def _ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    """What a terminal's encoding lacks: our own marks as ASCII, other characters as escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    encoded = (ASCII.get(character) or ascii(character)[1:-1] for character in text)
    return "".join(encoded), error.end


codecs.register_error("m2kt-ascii", _ascii)


def _is_utf8(stream: object) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")


def _make_writable() -> None:
    """No character of a result may stop the command: the encoding of the terminal decides how it is written."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not _is_utf8(stream):
            stream.reconfigure(errors="m2kt-ascii")


def stdout() -> Console:
    """Console for results; created when it is used, so that redirections hold."""
    console = Console(soft_wrap=False)
    # without a terminal rich assumes 80 columns and truncates the heads of tables
    return console if console.is_terminal else Console(soft_wrap=False, width=120)


def stderr() -> Console:
    """Console for progress, notes and errors."""
    return Console(stderr=True)


def say(*lines: str) -> None:
    """Lines on stdout; what does not print is escaped, line breaks stay."""
    for line in lines:
        stdout().print("\n".join(map(printable, line.split("\n"))), markup=False, highlight=False, soft_wrap=True)


def note(line: str) -> None:
    """A line on stderr."""
    stderr().print(printable(line), style="dim", markup=False, highlight=False, soft_wrap=True)


def show(result: Result, json_: bool, style: str = "bold") -> None:
    """A result on stdout: its report as JSON, or its headline, table and remarks."""
    if json_:
        print_json(result.report())
        return
    stdout().print(Text(result.headline(), style=style), soft_wrap=True)
    table = Table(show_header=False)
    for name, value in result.table().items():
        table.add_row(name, Text("\n".join(map(printable, value.split("\n"))), overflow="fold"))
    if table.row_count:
        stdout().print(table)
    say(*result.remarks())


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """Turn deliberate errors into one red line on stderr and their exit code. Any other is a bug and shows."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        quieten()
        _make_writable()
        try:
            return command(*args, **kwargs)
        except M2KTError as error:
            message = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
            stderr().print(f"error: {printable(message)}", style="red", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(error.exit_code) from None

    return run


def print_json(result: object, indent: int | None = 1) -> None:
    """Exactly one JSON value on stdout."""
    # pydantic writes NaN as null, which is what JSON has for it
    data = json.loads(result.model_dump_json()) if isinstance(result, BaseModel) else result
    text = json.dumps(data, ensure_ascii=not _is_utf8(sys.stdout), allow_nan=False, indent=indent)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class _Bars:
    """Progress by stage: bars on a terminal, else a line per stage. Called as ``(stage, done, total)``."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._console = console
        self._progress = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._tasks: dict[str, TaskID] = {}
        self._latest: tuple[str, int] = ("", 0)

    def __enter__(self) -> _Bars:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._progress is None:
            if stage != self._latest[0] or done < self._latest[1]:
                self._console.print(f"{stage} ...", style="dim", highlight=False)
            self._latest = (stage, done)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)


@contextlib.contextmanager
def working() -> Iterator[Callable[[str, int, int], None]]:
    """Progress on stderr; what libraries print goes there too, so that stdout has the result alone."""
    with _Bars(stderr()) as bars, contextlib.redirect_stdout(sys.stderr):
        yield bars
