"""``m2kt chat``: talk to a student, its adapters switched by a key."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from m2kt.cli._explain import explanation_views
from m2kt.cli._options import Device, Dtype, Json, Model
from m2kt.cli._output import complain, note, print_json, reported, stderr, stdout, working
from m2kt.errors import M2KTError, printable

if TYPE_CHECKING:
    from m2kt.pipeline import Chat

KEYS = "Enter alone: adapters on/off · /1 /2: one of them · /why: explain · /new: begin anew · /quit"


@reported
def chat(
    model: Model,
    adapter: Annotated[
        list[Path] | None, typer.Option("--adapter", help="Adapter made by ingest; may be repeated.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option("--tokens", min=1, help="Longest answer.")] = 256,
    device: Device = "auto",
    dtype: Dtype = "auto",
    json_: Json = False,
) -> None:
    """Talk to a student in the terminal, and hear what it says with its adapters and without.

    Enter alone switches the adapters off and on; /why explains the latest answer. With --json, or from a pipe: a
    message a line, an answer a line.
    """
    with working() as progress:
        from m2kt import pipeline

        session = pipeline.chat(
            model, adapter or [], max_new_tokens=max_new_tokens, device=device, dtype=dtype, progress=progress
        )
    note(KEYS)
    for line in _lines(session):
        try:
            _answer(session, line.strip(), json_)
        except M2KTError as error:  # a mistyped command ends no conversation
            complain(error)


def _lines(session: Chat) -> Iterator[str]:
    """What is typed, up to /quit or the end of the input."""
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):  # line editing, where the platform has it
            import readline  # noqa: F401
    while True:
        if sys.stdin.isatty():
            names = ", ".join(Path(name).name for name in session.on) or "the student alone"
            stderr().print(f"[dim]{_safe(names)}[/dim] > ", end="")
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            return
        if not line or line.strip() == "/quit":
            return
        yield line


def _safe(text: str) -> str:
    from rich.markup import escape

    return escape(printable(text))


def _answer(session: Chat, line: str, json_: bool) -> None:
    number = int(line[1:]) if line.startswith("/") and line[1:].isdecimal() else 0
    if not line or 0 < number <= len(session.adapters):
        session.toggle(session.adapters[number - 1] if number else None)
        note("on: " + (", ".join(session.on) or "none; the student answers by itself"))
    elif line == "/new":
        session.forget()
        note("begun anew")
    elif line == "/why":
        with working() as progress:
            explanation = session.explain(progress=progress)
        if json_:
            print_json(explanation.report(), indent=None)
            return
        for view in explanation_views(explanation):
            stdout().print(view)
    elif line.startswith("/"):
        note(KEYS)
    else:
        with working():
            turn = session.say(line)
        if json_:
            print_json(turn.report(), indent=None)
        else:
            shown = "\n".join(map(printable, turn.answer.strip().split("\n")))
            stdout().print(Text(shown, style="bold cyan" if turn.adapters else "yellow"), soft_wrap=True)
