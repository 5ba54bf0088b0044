"""What all verbs share: where results and errors go, progress on stderr, exit codes."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from m2kt._libraries import quieten
from m2kt.errors import M2KTError

REJECTED = 5
EXIT_CODES = (
    "Exit codes: 0 done (ingest: accepted), 2 usage, 3 probe spec or configuration, 4 model, "
    "5 rejected and rolled back, 6 extraction, 7 packet, 8 student cannot take the packet in, 9 storage, "
    "10 training, 11 not trusted, 12 broker or network, 1 any other failure."
)

P = ParamSpec("P")
R = TypeVar("R")


def stdout() -> Console:
    """Console for results; made late, so that redirections hold."""
    console = Console(soft_wrap=False)
    # Off a terminal rich assumes 80 columns and cuts the tables' heads off.
    return console if console.is_terminal else Console(soft_wrap=False, width=120)


def stderr() -> Console:
    """Console for progress, notes and errors."""
    return Console(stderr=True)


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """Turn deliberate errors into one red line on stderr and their exit code. Anything else is a bug and shows."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        quieten()
        try:
            return command(*args, **kwargs)
        except M2KTError as error:
            message = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
            stderr().print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(error.exit_code) from None

    return run


def print_json(result: Any) -> None:
    """Exactly one JSON object on stdout."""
    # pydantic writes NaN (nothing to measure) as null; JSON has no other word for it
    data = json.loads(result.model_dump_json()) if hasattr(result, "model_dump_json") else result
    sys.stdout.write(json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
    sys.stdout.flush()


class _Bars:
    """Progress by stage: bars on a terminal, one line a stage elsewhere. Called as ``(stage, done, total)``."""

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
    """Progress on stderr; whatever libraries print meanwhile goes there too, so that stdout stays clean."""
    with _Bars(stderr()) as bars, contextlib.redirect_stdout(sys.stderr):
        yield bars


def percent(value: float | None, digits: int = 1) -> str:
    """``0.995`` as ``99.5 %``."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def interval(bounds: Any) -> str:
    """A 95 % interval."""
    return "" if bounds is None else f"[{percent(bounds[0])}, {percent(bounds[1])}]"
