"""The ``m2kt`` command: a verb parses, calls one function, prints. Importing it loads no torch.

stdout carries the result (with ``--json`` exactly one JSON object), stderr everything else. Errors are one line on
stderr and an exit code from :mod:`m2kt.errors`. Verbs of other distributions import what they share from here.
"""

from __future__ import annotations

import typer

from m2kt.cli._broker import lineage, publish, pull, search, yank
from m2kt.cli._encrypt import decrypt, encrypt
from m2kt.cli._explain import explain
from m2kt.cli._forget import forget
from m2kt.cli._merging import chain, merge, unmerge
from m2kt.cli._models import models
from m2kt.cli._options import Json as Json
from m2kt.cli._options import Trust as Trust
from m2kt.cli._output import EXIT_CODES as EXIT_CODES
from m2kt.cli._output import print_json as print_json
from m2kt.cli._output import reported as reported
from m2kt.cli._output import stderr as stderr
from m2kt.cli._output import stdout as stdout
from m2kt.cli._output import working as working
from m2kt.cli._packets import audit, diff, inspect
from m2kt.cli._plugins import add_plugins
from m2kt.cli._probes import probes, try_
from m2kt.cli._transfer import consolidate, demo, evaluate, export, extract, ingest, preflight, rollback
from m2kt.cli._trust import attest, keys, sign, verify

app = typer.Typer(
    name="m2kt",
    help="Transmit a skill from a teacher language model to a frozen student of another family, as a signed packet.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _verb in (
    try_,
    extract,
    inspect,
    diff,
    merge,
    unmerge,
    chain,
    audit,
    sign,
    attest,
    verify,
    encrypt,
    decrypt,
    preflight,
    ingest,
    rollback,
    forget,
    evaluate,
    explain,
    consolidate,
    export,
    publish,
    pull,
    search,
    yank,
    lineage,
    demo,
):
    app.command(name=_verb.__name__.rstrip("_"), epilog=EXIT_CODES)(_verb)
app.add_typer(keys, name="keys")
app.add_typer(models, name="models")
app.add_typer(probes, name="probes")
add_plugins(app)


def main() -> None:
    """Entry point of the console script."""
    app()
