"""``m2kt verify FILE --trust trust.yaml``: is it whole, and does the policy accept who signed it?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from m2kt.cli._options import Json, Trust
from m2kt.cli._output import print_json, reported
from m2kt.cli._trust import print_verdict
from m2kt.errors import TrustError

NAME = "verify"


@reported
def command(
    file: Annotated[Path, typer.Argument(help="A packet, or a signed statement such as receipt.json.")],
    trust: Trust = None,
    at: Annotated[
        datetime | None,
        typer.Option(help="Check expiry against this time (UTC) instead of now.", metavar="TIME"),
    ] = None,
    json_: Json = False,
) -> None:
    """Check every signature of a packet or statement, and ask a trust policy about the signers.

    Exit 0: intact and trusted. Exit 7: damaged or edited. Exit 11: intact and not trusted; without --trust
    nothing is trusted.
    """
    from m2kt.packet import TrustPolicy, judge_file

    policy = None if trust is None else TrustPolicy.from_file(trust)
    verdict = judge_file(file, policy, at=at if at is None or at.tzinfo else at.replace(tzinfo=UTC))
    if json_:
        print_json(verdict)
    else:
        print_verdict(verdict)
    if not verdict.trusted:
        raise typer.Exit(TrustError.exit_code)
