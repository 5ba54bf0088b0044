"""``m2kt verify FILE --trust trust.yaml``: is it whole, and does the policy accept who signed it?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from m2kt.cli._options import Json, Trust
from m2kt.cli._output import print_json, reported
from m2kt.cli._trust import print_verdict
from m2kt.errors import SpecError, TrustError

NAME = "verify"


@reported
def command(
    file: Annotated[
        str,
        typer.Argument(help="A packet or its reference, an adapter, or a signed statement: receipt.json."),
    ],
    trust: Trust = None,
    at: Annotated[
        datetime | None,
        typer.Option(help="Check expiry against this time (UTC) instead of now.", metavar="TIME"),
    ] = None,
    packet: Annotated[
        str | None,
        typer.Option("--packet", help="An adapter: it must come from this packet.", metavar="PACKET"),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option("--student", help="An adapter: this must be its base model.", metavar="MODEL"),
    ] = None,
    json_: Json = False,
) -> None:
    """Check every signature of a packet or statement, and ask a trust policy about the signers.

    An adapter: its receipt must be about the files that lie there, and about the packet and model that are named.

    Exit 0: intact and trusted. Exit 7: damaged or edited. Exit 11: intact and not trusted; without --trust
    nothing is trusted.
    """
    from m2kt.packet import TrustPolicy, judge_file
    from m2kt.pipeline import verify_adapter
    from m2kt.remote import local_packet

    path = local_packet(file)
    policy = None if trust is None else TrustPolicy.from_file(trust)
    at = at if at is None or at.tzinfo else at.replace(tzinfo=UTC)
    if (path / "adapter_config.json").is_file():
        verdict = verify_adapter(path, policy, packet=packet, student=student, at=at)
    elif packet is not None or student is not None:
        raise SpecError(f"--packet and --student go with an adapter; there is none at {file}")
    else:
        verdict = judge_file(path, policy, at=at)
    if json_:
        print_json(verdict)
    else:
        print_verdict(verdict)
    if not verdict.trusted:
        raise typer.Exit(TrustError.exit_code)
