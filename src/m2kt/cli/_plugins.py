"""Verbs of other distributions, and ``bench``, which only a checkout has."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import typer

from m2kt._plugins import CLI, missing, plugins
from m2kt.cli._output import EXIT_CODES, reported
from m2kt.errors import M2KTError, SpecError

DISTRIBUTIONS = {"broker": "m2kt-broker", "serve": "m2kt-broker"}
"""Distribution of each verb that has an error where it is not installed."""
CHECKOUT = Path(__file__).resolve().parents[3]


def add_plugins(app: typer.Typer) -> None:
    """Add every installed verb; a known one that is not installed becomes a command that names its distribution."""
    installed = plugins(CLI)
    for name, entry in installed.items():
        _add(app, name, entry.load())
    for name, distribution in DISTRIBUTIONS.items():
        if name not in installed:
            _add(app, name, _stub(missing(f"m2kt {name}", distribution)))
    _add(app, "bench", _bench())


def _add(app: typer.Typer, name: str, verb: typer.Typer | Callable[..., None]) -> None:
    if isinstance(verb, typer.Typer):
        app.add_typer(verb, name=name)
    else:
        any_arguments = {"allow_extra_args": True, "ignore_unknown_options": True} if _is_stub(verb) else None
        app.command(name=name, epilog=EXIT_CODES, context_settings=any_arguments)(verb)


def _bench() -> typer.Typer | Callable[..., None]:
    """The bench's verbs, where the package ``benchmarks`` can be imported or is in the checkout."""
    if find_spec("benchmarks") is None and (CHECKOUT / "benchmarks" / "_cli.py").is_file():
        sys.path.append(str(CHECKOUT))
    if find_spec("benchmarks") is not None and find_spec("benchmarks._cli") is not None:
        bench: typer.Typer = importlib.import_module("benchmarks._cli").app
        return bench
    return _stub(SpecError("m2kt bench needs a checkout of the repository: its directory benchmarks/ is in no wheel"))


def _stub(error: M2KTError) -> Callable[[], None]:
    @reported
    def stub() -> None:
        raise error

    stub.__doc__ = f"Not available: {error}."
    stub.__dict__["stub"] = True
    return stub


def _is_stub(verb: Callable[..., None]) -> bool:
    return bool(getattr(verb, "stub", False))
