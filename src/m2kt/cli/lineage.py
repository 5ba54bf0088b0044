"""``m2kt lineage DIGEST``: teacher, packet, adapters."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text
from rich.tree import Tree

from m2kt.cli._options import Json
from m2kt.cli._output import percent, print_json, reported, stdout

NAME = "lineage"


@reported
def command(
    digest: Annotated[
        str, typer.Argument(help="Of a teacher, a packet or an adapter: sha256:...", metavar="DIGEST")
    ],
    json_: Json = False,
) -> None:
    """Show what a packet came from and what became of it, as the broker knows it from signed receipts."""
    from m2kt.remote import BrokerClient

    with BrokerClient() as broker:
        found = broker.lineage(digest)
    if json_:
        print_json(found)
        return
    for line in found["lines"]:
        stdout().print(_tree(line))


def _tree(line: dict[str, Any]) -> Tree:
    packet = line["packet"]
    tree = Tree(Text(f"teacher {packet['teacher']} {packet['teacher_digest']}"))
    branch = tree.add(Text(f"packet {packet['skill']} {packet['digest']} ({packet['state']})"))
    for receipt in line["receipts"]:
        taken = f"{receipt['verdict']} by {receipt['student']}, accuracy {percent(receipt['accuracy'])}"
        branch.add(Text(taken if receipt["adapter"] is None else f"adapter {receipt['adapter']}: {taken}"))
    return tree
