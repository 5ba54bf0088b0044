"""``m2kt audit``: what a packet's texts say, whether it contradicts itself or another one; or any texts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.table import Table
from rich.text import Text

from m2kt.cli._options import PACKET_HELP, Json, Key, StatementFile
from m2kt.cli._output import REJECTED, print_json, reported, stderr, stdout, working
from m2kt.cli._trust import write_statement
from m2kt.errors import SpecError, explain

NAME = "audit"


@reported
def command(
    packet: Annotated[str | None, typer.Argument(help=PACKET_HELP, metavar="PACKET")] = None,
    texts: Annotated[
        Path | None,
        typer.Option(help='Judge these texts instead: a file of lines {"text": ...}.', metavar="FILE.jsonl"),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Packet of a teacher that is trusted, to compare the rules with.", metavar="PACKET"
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Detectors and thresholds, YAML (ContentConfig).", metavar="FILE")
    ] = None,
    statement: StatementFile = None,
    key: Key = "ed25519",
    json_: Json = False,
) -> None:
    """Look through a packet, or through texts, before anybody relies on them.

    A packet: all texts that it carries go through the detectors, and its rows are held against each other; exit 5 if
    anything was found. Texts: --json prints one object a line, {"flagged", "category", "score", ...}, in order.
    """
    if (packet is None) == (texts is None):
        raise SpecError("expected either a PACKET or --texts FILE.jsonl")
    if texts is not None:
        if against is not None or statement is not None:
            raise SpecError("--against and --statement go with a PACKET, not with --texts")
        _texts(_read(texts), config, json_)
    elif packet is not None and not _packet(packet, against, config, statement, key, json_):
        raise typer.Exit(REJECTED)


def _auditor(config: Path | None) -> Any:
    from m2kt.audit import content_auditor

    try:
        chosen = yaml.safe_load(config.read_text(encoding="utf-8")) if config is not None else {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError(f"cannot use the configuration {config}: {explain(error)}") from error
    return content_auditor(
        chosen, lambda line: stderr().print(line, style="dim", markup=False, highlight=False)
    )


def _read(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read {path}: {explain(error)}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise SpecError(f"{path}, line {number}: expected JSON, came {line[:40]!r} ({error})") from error
        text = data.get("text") if isinstance(data, dict) else None
        if not isinstance(text, str):
            raise SpecError(f'{path}, line {number}: expected {{"text": ...}}, came {line[:60]!r}')
        found.append(text)
    return found


def _texts(texts: list[str], config: Path | None, json_: bool) -> None:
    with working() as progress:
        judged = _auditor(config)(texts, lambda done, total: progress("judging", done, total))
    if json_:
        for judgement in judged:
            sys.stdout.write(json.dumps(judgement.model_dump(mode="json"), ensure_ascii=False) + "\n")
        return
    table = Table("text", "category", "score", "because")
    for text, judgement in zip(texts, judged, strict=True):
        if judgement.flagged:
            shown = Text(text if len(text) <= 80 else f"{text[:77]}...")
            table.add_row(shown, judgement.category, f"{judgement.score:.2f}", Text(judgement.what))
    stdout().print(table)
    flagged = sum(j.flagged for j in judged)
    stdout().print(f"{flagged} of {len(judged)} texts flagged", markup=False, highlight=False)


def _packet(
    place: str, against: str | None, config: Path | None, statement: Path | None, key: str, json_: bool
) -> bool:
    from m2kt import pipeline
    from m2kt.packet import VERDICT
    from m2kt.remote import open_packet

    packet = open_packet(place)
    other = None if against is None else open_packet(against)
    with working():
        found = pipeline.audit(packet, _auditor(config), other)
    if statement is not None:
        write_statement(statement, packet, VERDICT, found, key)
    if json_:
        print_json(found)
        return found.clean
    content, consistency = found.content, found.consistency
    table = Table("where", "text", "category", "score", "because")
    for f in content["findings"]:
        table.add_row(f["where"], Text(f["text"]), f["category"], f"{f['score']:.2f}", Text(f["what"]))
    if content["findings"]:
        stdout().print(table)
    for row in consistency["contradictions"]:
        stdout().print(str(row), markup=False, highlight=False)
    compared = f"{consistency['both']} of {consistency['rows']} rows travel as text and vector"
    if consistency["common"] is not None:
        compared += f", {consistency['common']} are in the other packet too"
    stdout().print(
        f"{len(content['findings'])} of {content['texts']} texts flagged, {len(content['penalties'])} concepts with a "
        f"penalty, {len(consistency['contradictions'])} contradictions ({compared})",
        markup=False,
        highlight=False,
    )
    return found.clean
