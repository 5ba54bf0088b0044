"""Progress on stderr: one line that names the stage at work, and how much a command says at all."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from m2kt.errors import printable

Volume = Literal["quiet", "normal", "verbose"]
VOLUME: ContextVar[Volume] = ContextVar("VOLUME", default="normal")
"""quiet: results and errors alone; verbose: finished stages stay, with their seconds."""


class _Count(ProgressColumn):
    """``done/total``, where there is anything to count."""

    def render(self, task: Task) -> Text:
        if not task.total or task.total <= 1:
            return Text("")
        return Text(f"{int(task.completed):,}/{int(task.total):,}", style="progress.download")


class Stages:
    """The stage at work: one line on a terminal, which goes when all is done; else a line a stage.

    Called as ``(stage, done, total)``. A stage of one step shows no count: nobody knows how far it is.
    """

    def __init__(self, console: Console, volume: Volume) -> None:
        self._console, self._volume = console, volume
        bar = BarColumn(bar_width=20)
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), bar, _Count(), TimeElapsedColumn())
        live = console.is_terminal and volume != "quiet"
        self._progress = Progress(*columns, console=console, transient=True) if live else None
        self._stage, self._done, self._since = "", 0, time.monotonic()

    def __enter__(self) -> Stages:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage or done < self._done:
            self._finish()
            self._begin(stage)
        self._done = done
        if self._progress is not None:
            for task in self._progress.task_ids:
                self._progress.update(task, completed=done, total=total if total > 1 else None)

    def _begin(self, stage: str) -> None:
        self._stage, self._since = stage, time.monotonic()
        if self._progress is not None:
            for task in self._progress.task_ids:
                self._progress.remove_task(task)
            self._progress.add_task(printable(stage), total=None)
        elif self._volume == "normal":
            self._say(f"{stage} ...")

    def _finish(self) -> None:
        if self._stage and self._volume == "verbose":
            self._say(f"{self._stage}: {time.monotonic() - self._since:.1f} s")
        self._stage, self._done = "", 0

    def _say(self, line: str) -> None:
        self._console.print(printable(line), style="dim", markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def working() -> Iterator[Stages]:
    """Progress on stderr; what libraries print goes there too, so that stdout has the result alone."""
    with Stages(Console(stderr=True), VOLUME.get()) as stages, contextlib.redirect_stdout(sys.stderr):
        yield stages
