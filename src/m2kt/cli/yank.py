"""``m2kt yank DIGEST --reason TEXT``: take a packet back."""

from __future__ import annotations

from typing import Annotated

import typer

from m2kt.cli._options import Json
from m2kt.cli._output import print_json, reported, stdout
from m2kt.errors import SpecError

NAME = "yank"


@reported
def command(
    digest: Annotated[str, typer.Argument(help="Digest of the packet, sha256:...", metavar="DIGEST")],
    reason: Annotated[str, typer.Option(help="Why; shown to whoever asks for it.")],
    revoke: Annotated[
        bool, typer.Option("--revoke", help="For ever: its bytes are refused, and ingest refuses it.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="List a yanked packet again.")] = False,
    json_: Json = False,
) -> None:
    """Hide a packet from lists and searches; whoever knows its digest still gets it, with the reason.

    Its publisher may do that, and every admin. Exit 12: the broker refused or did not answer.
    """
    from m2kt.remote import BrokerClient

    if revoke and undo:
        raise SpecError("--revoke is for ever, --undo lists again: give one of the two")
    state = "revoked" if revoke else "listed" if undo else "yanked"
    with BrokerClient() as broker:
        view = broker.set_state(digest, state, reason)
    if json_:
        print_json(view)
        return
    line = f"{view['digest']} is {view['state']}: {view['state_reason']}"
    stdout().print(line, markup=False, highlight=False, soft_wrap=True)
