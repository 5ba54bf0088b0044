"""The ``m2kt`` command: a verb parses, calls one function, prints. Importing it loads no torch.

stdout carries the result (with ``--json`` exactly one JSON object), stderr everything else. Errors are one line on
stderr and an exit code from :mod:`m2kt.errors`. Verbs of other distributions import what they share from here.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from m2kt.cli._broker import lineage, publish, pull, search, yank
from m2kt.cli._chat import chat
from m2kt.cli._demo import demo
from m2kt.cli._doctor import doctor
from m2kt.cli._encrypt import decrypt, encrypt
from m2kt.cli._explain import explain
from m2kt.cli._forget import forget
from m2kt.cli._help import arrange
from m2kt.cli._merging import chain, merge, unmerge
from m2kt.cli._models import models
from m2kt.cli._options import Address as Address
from m2kt.cli._options import EngineOption as EngineOption
from m2kt.cli._options import GpusPerWorker as GpusPerWorker
from m2kt.cli._options import Json as Json
from m2kt.cli._options import Trust as Trust
from m2kt.cli._options import WorkersOption as WorkersOption
from m2kt.cli._options import cluster_of as cluster_of
from m2kt.cli._output import EXIT_CODES as EXIT_CODES
from m2kt.cli._output import Quiet, Verbose, set_volume
from m2kt.cli._output import print_json as print_json
from m2kt.cli._output import reported as reported
from m2kt.cli._output import stderr as stderr
from m2kt.cli._output import stdout as stdout
from m2kt.cli._packets import audit, diff, inspect
from m2kt.cli._plugins import add_plugins
from m2kt.cli._probes import probes, try_
from m2kt.cli._progress import VOLUME
from m2kt.cli._progress import working as working
from m2kt.cli._transfer import consolidate, evaluate, export, extract, ingest, preflight, rollback
from m2kt.cli._trust import attest, keys, sign, verify

app = typer.Typer(
    name="m2kt",
    help="Transmit a skill from a teacher language model to a frozen student of another family, as a signed packet.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from m2kt import __version__

        sys.stdout.write(f"m2kt {__version__}\n")
        raise typer.Exit


@app.callback()
def _manners(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    VOLUME.set("normal")
    set_volume(quiet, verbose)


VERBS = {
    verb.__name__.rstrip("_"): verb
    for verb in (
        *(demo, doctor),
        *(try_, extract, merge, unmerge, chain),
        *(audit, verify, preflight, evaluate),
        *(ingest, rollback, forget, consolidate, export),
        *(inspect, diff, explain, chat, lineage),
        *(sign, attest, encrypt, decrypt, publish, pull, search, yank),
    )
}
for _name, _verb in VERBS.items():
    app.command(name=_name)(_verb)
app.add_typer(probes, name="probes")
app.add_typer(models, name="models")
app.add_typer(keys, name="keys")
add_plugins(app)
arrange(app)


def main() -> None:
    """Entry point of the console script."""
    app()
