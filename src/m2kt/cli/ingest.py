"""``m2kt ingest STUDENT PACKET --out ADAPTER``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from m2kt.cli._options import Device, Dtype, DtypeName, Json, PacketPlace, Seed, Trust
from m2kt.cli._output import REJECTED, interval, percent, print_json, reported, stderr, stdout, working

if TYPE_CHECKING:
    from m2kt.pipeline import IngestResult

NAME = "ingest"


@reported
def command(
    student: Annotated[str, typer.Argument(help="A directory, a Hub id, a fetched model, or a zoo: name.")],
    packet: PacketPlace,
    out: Annotated[Path, typer.Option("--out", help="Where the adapter goes.", metavar="ADAPTER")],
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Settings of student side and verdict.", metavar="CAL.yaml"),
    ] = None,
    updates: Annotated[int | None, typer.Option(min=0, help="Optimiser steps.")] = None,
    seed: Seed = 0,
    reuse: Annotated[
        Path | None,
        typer.Option(
            "--reuse", help="A trained adapter: swap its vectors, train nothing.", metavar="ADAPTER"
        ),
    ] = None,
    probes: Annotated[
        str | None,
        typer.Option(
            "--probes", help="Spec with a truth: judge by it, not by the packet's roll-out.", metavar="SPEC"
        ),
    ] = None,
    trust: Trust = None,
    device: Device = "auto",
    dtype: Dtype = DtypeName.auto,
    json_: Json = False,
) -> None:
    """Train a frozen student's adapter on a packet, judge it, and keep it only if it is accepted.

    Exit 0: accepted and written. Exit 5: rejected; what stood at --out before stands there still. Exit 11: the
    trust policy does not accept the packet; nothing was trained. Either verdict leaves a signed receipt.
    """
    if trust is None:
        note = "note: where the packet comes from was not checked; --trust TRUST.yaml does"
        stderr().print(note, style="dim", highlight=False)
    with working() as progress:
        from m2kt import pipeline

        result = pipeline.ingest(
            student,
            packet,
            out,
            config=config,
            updates=updates,
            seed=seed,
            reuse=reuse,
            probes=probes,
            trust=trust,
            device=device,
            dtype=dtype.value,
            progress=progress,
        )
    accepted = result.verdict == "accepted"
    if json_:
        print_json(result)
    else:
        _print(result, accepted)
    if not accepted:
        raise typer.Exit(REJECTED)


def _print(r: IngestResult, accepted: bool) -> None:
    title = "[green]accepted[/green]" if accepted else "[red]rejected, rolled back[/red]"
    stdout().print(title)
    table = Table(show_header=False)
    for name, value in (
        ("student before", percent(r.before)),
        ("student after", f"{percent(r.accuracy)} {interval(r.interval)}"),
        ("teacher (packet's own roll-out)", percent(r.teacher)),
        ("retention", percent(r.retention)),
        ("gap recovered", percent(r.gap_recovered)),
        ("single steps, prefix given", _steps(r.steps)),
        ("the teacher is sure of", _confidence(r.confidence)),
        ("certified: as the packet", _certified(r.certificate)),
        ("judged by", r.reference),
        ("prompts", str(r.n)),
        ("updates", str(r.updates)),
        ("seconds", f"{r.seconds:.1f}"),
        ("adapter", r.adapter if accepted else "unchanged"),
        ("receipt", r.receipt),
        ("digest before", str(r.adapter_digest_before)),
        ("digest now", str(r.adapter_digest)),
    ):
        table.add_row(name, Text(value, overflow="fold"))
    stdout().print(table)
    for reason in r.reasons:
        stdout().print(f"because: {reason}", markup=False, highlight=False)
    for found in r.diagnosis:
        stdout().print(f"diagnosis: {found['name']}. {found['says']}", markup=False, highlight=False)


def _confidence(confidence: dict[str, Any] | None) -> str:
    if confidence is None:
        return "-"
    of = f"{confidence['n'] - confidence['doubted']} of {confidence['n']} prompts"
    named = (("sure", confidence["sure"]), ("doubted", confidence["unsure"]))
    parts = [f"{percent(part['as_packet'])} of the {name} as the packet" for name, part in named if part]
    return ", ".join([of, *parts])


def _certified(certificate: dict[str, Any] | None) -> str:
    if certificate is None:
        return "-"
    bound, divergence = percent(certificate["bound"]), percent(certificate["divergence_bound"])
    return (
        f"at least {bound} (from divergences alone: {divergence}), at {percent(certificate['confidence'], 0)}, "
        f"{certificate['rule_steps']:.1f} rule steps a problem, {certificate['traces']} traces"
    )


def _steps(steps: dict[str, Any] | None) -> str:
    if not steps or not steps["n"]:
        return "-"
    stages = [s for s in ("selected", "gathered", "retrieved") if steps[s] is not None]
    inside = ", ".join(f"{s} {percent(steps[s])}" for s in stages)
    seen = f"{percent(steps['concepts_seen'], 0)} of the concepts"
    return f"{percent(steps['read_out'])} of {steps['n']}" + (f" ({inside}), " if inside else ", ") + seen
