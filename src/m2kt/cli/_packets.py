"""``m2kt inspect``, ``m2kt diff``, ``m2kt audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2kt.cli._options import PACKET_HELP, Html, Json, Key, PacketReference, StatementFile
from m2kt.cli._output import REJECTED, note, print_json, reported, say, show, stdout, working
from m2kt.cli._trust import signer_of
from m2kt.errors import SpecError


@reported
def inspect(
    packet: PacketReference,
    html: Html = None,
    bom: Annotated[
        Path | None,
        typer.Option("--bom", help="Write a CycloneDX 1.6 bill of materials, as JSON.", metavar="FILE"),
    ] = None,
    json_: Json = False,
) -> None:
    """Verify a packet and show its symbols, rules, graph, fidelity, ledger and signer."""
    from m2kt import pipeline
    from m2kt.cli._render import packet_views

    result = pipeline.inspect(packet, html=html, bom=bom)
    for file in (html, bom):
        if file is not None:
            note(f"wrote {file}")
    if json_:
        print_json(result.report())
    elif html is None and bom is None:
        console = stdout()
        for view in packet_views(result.packet, result.description, console.width):
            console.print(view)


@reported
def diff(
    a: Annotated[str, typer.Argument(help=PACKET_HELP, metavar="A")],
    b: Annotated[str, typer.Argument(help="The packet to compare it with.", metavar="B")],
    html: Html = None,
    json_: Json = False,
) -> None:
    """Compare two packets: provenance, symbols, rules and their rows, vectors, shapes, fidelity.

    Exit 0 if they could be compared, whether they are equal or not.
    """
    from m2kt import pipeline
    from m2kt.cli._render import section_views
    from m2kt.render import diff_sections

    differences = pipeline.diff(a, b, html=html)
    if html is not None:
        note(f"wrote {html}")
    if json_:
        print_json(differences)
    elif html is None:
        for view in section_views(diff_sections(differences)):
            stdout().print(view)


@reported
def audit(
    packet: Annotated[str | None, typer.Argument(help=PACKET_HELP, metavar="PACKET")] = None,
    texts: Annotated[
        Path | None,
        typer.Option(help='Judge these texts instead: a file of lines {"text": ...}.', metavar="FILE.jsonl"),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Packet of a trusted teacher, whose rows and program are compared too.", metavar="PACKET"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Detectors and thresholds, YAML (ContentConfig).", metavar="FILE")
    ] = None,
    statement: StatementFile = None,
    key: Key = "ed25519",
    json_: Json = False,
) -> None:
    """Run the content auditor over a packet or over texts, and compare the packet's rows with each other.

    A packet: exit 5 if there is any finding. Texts: --json prints an object per line, {"flagged", "category",
    "score", ...}, in order.
    """
    if (packet is None) == (texts is None):
        raise SpecError("expected either PACKET or --texts FILE.jsonl, got both or neither; give one of them")
    if texts is not None and (against is not None or statement is not None):
        raise SpecError("--against and --statement need a PACKET, got --texts; leave them out")
    with working() as progress:
        from m2kt import pipeline
        from m2kt.cli._render import finding_table, text_table

        if texts is not None:
            judged = pipeline.audit_texts(texts, config=config, say=note, progress=progress)
        elif packet is not None:
            signer = None if statement is None else signer_of(key)
            result = pipeline.audit(packet, against=against, config=config, statement=statement, key=signer, say=note)
    if texts is not None:
        if json_:
            for _, judgement in judged:
                print_json(judgement, indent=None)
            return
        stdout().print(text_table(judged))
        say(f"{sum(judgement.flagged for _, judgement in judged)} of {len(judged)} texts flagged")
        return
    if statement is not None:
        note(f"wrote {statement}")
    if not json_ and result.content.findings:
        stdout().print(finding_table(result.content.findings))
    show(result, json_, style="green" if result.clean else "red")
    if not result.clean:
        raise typer.Exit(REJECTED)
