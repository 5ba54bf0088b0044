"""``m2kt publish``, ``pull``, ``search``, ``yank``, ``lineage``: the verbs of a broker."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from m2kt.cli._options import Json, Key, PacketReference, Trust
from m2kt.cli._output import note, print_json, reported, say, stdout, working
from m2kt.cli._trust import signer_of

if TYPE_CHECKING:
    from m2kt.remote import LineageAnswer, NearAnswer, SearchAnswer


@reported
def publish(
    packet: PacketReference,
    receipt: Annotated[
        list[Path] | None,
        typer.Option("--statement", help="A signed receipt, verdict or evaluation of it, posted too.", metavar="FILE"),
    ] = None,
    json_: Json = False,
) -> None:
    """Verify a packet and upload it to the broker at M2KT_BROKER_URL, with the key in M2KT_API_KEY.

    Publishing again adds new signatures, and the statements of --statement. Exit 12: the broker refused or did not
    answer.
    """
    from m2kt import remote

    with working() as progress:
        record = remote.publish(packet, receipt or [], progress=partial(progress, "uploading"))
    if json_:
        print_json(record)
    else:
        say(f"published {record['digest']}")


@reported
def pull(
    packet: Annotated[
        str,
        typer.Argument(help="Digest at the broker, or a reference: oci://, hf://, s3://.", metavar="DIGEST"),
    ],
    out: Annotated[Path, typer.Option("--out", help="Packet directory, or a file that ends in .m2kp.")],
    trust: Trust = None,
    json_: Json = False,
) -> None:
    """Download a packet, verify it, and write it.

    An interrupted download is resumed. Exit 7: damaged. Exit 11: revoked, or not accepted by the trust policy;
    nothing is written then. Exit 12: the source refused or did not answer.
    """
    from m2kt import remote

    if trust is None:
        note("note: the packet's origin was not checked; --trust TRUST.yaml checks it")
    with working() as progress:
        pulled = remote.pull(packet, out, trust=trust, progress=partial(progress, "downloading"))
    if json_:
        print_json(pulled)
    else:
        say(f"{pulled.digest} is at {pulled.packet}")


@reported
def search(
    text: Annotated[
        str | None, typer.Argument(help="Part of a symbol, rule, skill or teacher.", metavar="TEXT")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(help="A packet whose concept --row is searched for instead.", metavar="PACKET"),
    ] = None,
    row: Annotated[int, typer.Option(min=0, help="Number of the concept.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Maximum number of results.")] = 20,
    json_: Json = False,
) -> None:
    """Find packets at the broker by text, or concepts near one of a packet's in its teacher's space.

    Revoked and yanked packets are not listed. Exit 12: the broker refused or did not answer.
    """
    from m2kt import remote

    answer = remote.search(text, like=like, row=row, limit=limit)
    if json_:
        print_json(answer)
    else:
        stdout().print(_search_table(answer))


@reported
def yank(
    digest: Annotated[str, typer.Argument(help="Digest of the packet, sha256:...", metavar="DIGEST")],
    reason: Annotated[str, typer.Option(help="Shown to everybody who asks for the packet.")],
    revoke: Annotated[
        bool, typer.Option("--revoke", help="For ever: its bytes are refused, and ingest refuses it.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="List a yanked packet again.")] = False,
    key: Key = "ed25519",
    json_: Json = False,
) -> None:
    """Hide a packet from lists and searches; its digest still opens it, with the reason.

    The notice is signed by --key, which is its author's; an admin of the broker may use any. Exit 12: the
    broker refused or did not answer.
    """
    from m2kt import remote

    packet = remote.yank(digest, reason, revoke=revoke, undo=undo, key=signer_of(key))
    if json_:
        print_json(packet)
    else:
        say(f"{packet['digest']} is {packet['state']}: {packet['state_reason']}")


@reported
def lineage(
    digest: Annotated[str, typer.Argument(help="Of a teacher, a packet or an adapter: sha256:...", metavar="DIGEST")],
    json_: Json = False,
) -> None:
    """Show teacher, packet and adapters of a digest, as the broker knows them from signed receipts."""
    from m2kt import remote

    answer = remote.lineage(digest)
    if json_:
        print_json(answer)
        return
    for tree in _trees(answer):
        stdout().print(tree)


def _trees(answer: LineageAnswer) -> list[Tree]:
    from m2kt.render import percent

    trees = []
    for line in answer["lines"]:
        packet = line["packet"]
        tree = Tree(Text(f"teacher {packet['teacher']} {packet['teacher_digest']}"))
        branch = tree.add(Text(f"packet {packet['skill']} {packet['digest']} ({packet['state']})"))
        for receipt in line["receipts"]:
            ingest = f"{receipt['verdict']} by {receipt['student']}, accuracy {percent(receipt['accuracy'])}"
            adapter = receipt["adapter"]
            branch.add(Text(ingest if adapter is None else f"adapter {adapter}: {ingest}"))
        trees.append(tree)
    return trees


def _search_table(answer: SearchAnswer | NearAnswer) -> Table:
    from m2kt.render import percent

    if "near" in answer:
        table = Table("cosine", "concept", "skill", "packet")
        for near in answer["near"]:
            cells = (f"{near['cosine']:.4f}", near["concept"], near["skill"], near["packet"])
            table.add_row(*(Text(cell, overflow="fold") for cell in cells))
        return table
    table = Table("digest", "skill", "teacher", "fidelity", "verdicts", "because of")
    for hit in answer["found"]:
        packet = hit["packet"]
        verdicts = ", ".join(f"{count} {name}" for name, count in packet["verdicts"].items())
        labels = ", ".join(f"{label['kind']} {label['text']}" for label in hit["labels"])
        fidelity = percent(packet["fidelity"])
        cells6 = (packet["digest"], packet["skill"], packet["teacher"], fidelity, verdicts, labels)
        table.add_row(*(Text(cell or "-", overflow="fold") for cell in cells6))
    return table
