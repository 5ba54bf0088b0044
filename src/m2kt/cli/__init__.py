"""The ``m2kt`` command: a file per verb; parse, call, print. Importing it loads no torch.

stdout carries the result (with ``--json`` exactly one JSON object), stderr everything else. Errors are one line on
stderr and an exit code from :mod:`m2kt.errors`.
"""

from __future__ import annotations

import typer

from m2kt.cli import (
    audit,
    consolidate,
    demo,
    diff,
    evaluate,
    export,
    extract,
    ingest,
    inspect,
    keys,
    lineage,
    models,
    preflight,
    publish,
    pull,
    rollback,
    search,
    sign,
    verify,
    yank,
)
from m2kt.cli._output import EXIT_CODES
from m2kt.cli._plugins import add_plugins

app = typer.Typer(
    name="m2kt",
    help="Transmit a skill from a teacher language model to a frozen student of another family, as a signed packet.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_VERBS = (
    extract,
    inspect,
    diff,
    audit,
    sign,
    verify,
    preflight,
    ingest,
    rollback,
    evaluate,
    consolidate,
    export,
    publish,
    pull,
    search,
    yank,
    lineage,
    demo,
)
for _verb in _VERBS:
    app.command(name=_verb.NAME, epilog=EXIT_CODES)(_verb.command)
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
add_plugins(app)


def main() -> None:
    """Entry point of the console script."""
    app()
