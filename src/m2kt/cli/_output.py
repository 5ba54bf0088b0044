"""Output of all verbs: results on stdout, progress, notes and errors on stderr, exit codes."""

from __future__ import annotations

import codecs
import functools
import inspect
import io
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from m2kt._libraries import quieten
from m2kt.cli._progress import VOLUME, Volume
from m2kt.cli._progress import working as working
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
    known = console.is_terminal or "COLUMNS" in os.environ
    return console if known else Console(soft_wrap=False, width=120)


def stderr() -> Console:
    """Console for progress, notes and errors."""
    return Console(stderr=True)


def say(*lines: str) -> None:
    """Lines on stdout; what does not print is escaped, line breaks stay."""
    for line in lines:
        stdout().print("\n".join(map(printable, line.split("\n"))), markup=False, highlight=False, soft_wrap=True)


def note(line: str) -> None:
    """A line on stderr, unless the command was told to be quiet."""
    if VOLUME.get() == "quiet":
        return
    stderr().print(printable(line), style="dim", markup=False, highlight=False, soft_wrap=True)


def complain(error: M2KTError) -> None:
    """A deliberate error as one red line on stderr."""
    message = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    stderr().print(f"error: {printable(message)}", style="red", markup=False, highlight=False, soft_wrap=True)


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


Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Results and errors alone: no progress, no notes.")]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Keep finished stages with their seconds; show what libraries log.")
]


def set_volume(quiet: bool, verbose: bool) -> None:
    """How much the command says from now on; the later word wins over ``m2kt -q VERB``."""
    if quiet and verbose:
        raise typer.BadParameter("expected -q or -v, got both; leave one out")
    if quiet or verbose:
        volume: Volume = "quiet" if quiet else "verbose"
        VOLUME.set(volume)
    if VOLUME.get() == "verbose":
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """A verb: ``-q`` and ``-v`` beside its own options, deliberate errors as one red line and their exit code.

    Any other error is a bug and shows.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        set_volume(bool(kwargs.pop("quiet", False)), bool(kwargs.pop("verbose", False)))
        quieten()
        _make_writable()
        try:
            return command(*args, **kwargs)
        except M2KTError as error:
            complain(error)
            raise typer.Exit(error.exit_code) from None

    signature = inspect.signature(command, eval_str=True)
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in (("quiet", Quiet), ("verbose", Verbose))
    ]
    run.__dict__["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), *shared])
    return run


def print_json(result: object, indent: int | None = 1) -> None:
    """Exactly one JSON value on stdout."""
    # pydantic writes NaN as null, which is what JSON has for it
    data = json.loads(result.model_dump_json()) if isinstance(result, BaseModel) else result
    text = json.dumps(data, ensure_ascii=not _is_utf8(sys.stdout), allow_nan=False, indent=indent)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
