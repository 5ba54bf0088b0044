"""Verbs from elsewhere: those of other distributions, and ``bench``, which only a checkout has."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

from m2kt._plugins import CLI, missing, plugins
from m2kt.cli._output import EXIT_CODES, reported
from m2kt.errors import M2KTError, SpecError

DISTRIBUTIONS = {"broker": "m2kt-broker", "serve": "m2kt-broker"}
"""Verbs whose absence is explained, and the distribution that brings each."""
CHECKOUT = Path(__file__).resolve().parents[3]


def add_plugins(app: typer.Typer) -> None:
    """Add every installed verb; a known one that is not installed becomes a command that says what to install."""
    found = plugins(CLI)
    for name, entry in found.items():
        _add(app, name, entry.load())
    for name, distribution in DISTRIBUTIONS.items():
        if name not in found:
            _add(app, name, _stub(missing(f"m2kt {name}", distribution)))
    _add(app, "bench", _bench())


def _add(app: typer.Typer, name: str, verb: Any) -> None:
    if isinstance(verb, typer.Typer):
        app.add_typer(verb, name=name)
    else:
        anything = {"allow_extra_args": True, "ignore_unknown_options": True} if _is_stub(verb) else None
        app.command(name=name, epilog=EXIT_CODES, context_settings=anything)(verb)


def _bench() -> Any:
    """The bench's verbs, where the package ``benchmarks`` can be imported or stands in the checkout."""
    if find_spec("benchmarks") is None and (CHECKOUT / "benchmarks" / "_cli.py").is_file():
        sys.path.append(str(CHECKOUT))
    if find_spec("benchmarks") is not None and find_spec("benchmarks._cli") is not None:
        return importlib.import_module("benchmarks._cli").app
    return _stub(
        SpecError("m2kt bench needs a checkout of the repository: its folder benchmarks/ is in no wheel")
    )


def _stub(error: M2KTError) -> Callable[[], None]:
    @reported
    def stub() -> None:
        raise error

    stub.__doc__ = f"Not available: {error}."
    stub.__dict__["stub"] = True
    return stub


def _is_stub(verb: Any) -> bool:
    return bool(getattr(verb, "stub", False))
