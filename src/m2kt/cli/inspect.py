"""``m2kt inspect PACKET``: what a packet holds, for people and for scripts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m2kt.cli._options import Json
from m2kt.cli._output import print_json, reported, stdout

if TYPE_CHECKING:
    from m2kt.packet import Packet

NAME = "inspect"


@reported
def command(
    packet: Annotated[Path, typer.Argument(help="Packet directory or .m2kp file.")],
    json_: Json = False,
) -> None:
    """Verify a packet and show its symbols, rules, graph, fidelity, ledger and signer."""
    from m2kt.packet import Packet

    loaded = Packet.load(packet)
    if json_:
        print_json(describe(loaded))
        return
    from m2kt.cli._render import packet_views

    console = stdout()
    for view in packet_views(loaded, describe(loaded), console.width):
        console.print(view)


def describe(packet: Packet) -> dict[str, Any]:
    """The machine form. ``output`` is what travels as text, ``decoded`` what the vectors say to the symbol states."""
    from m2kt.packet import decode_outputs

    graph, manifest = packet.graph, packet.manifest
    decoded: list[int | None] = [None] * graph.n_concepts
    if graph.n_concepts and len(packet.concepts["pool_symbol_P"]):
        decoded = list(decode_outputs(graph, packet.concepts))

    def named(symbol: int | None) -> str | None:
        return None if symbol is None else graph.symbols[symbol]

    rules = []
    for rule in graph.rules:
        rows = [
            {
                "arguments": [graph.symbols[a] for a in row],
                "output": named(rule.outputs[i]),
                "decoded": named(decoded[rule.offset + i]),
                "support": int(packet.concepts["support_K"][rule.offset + i]),
            }
            for i, row in enumerate(rule.rows)
        ]
        about = rule.model_dump(mode="json", include={"name", "arity", "family", "uses"})
        rules.append({**about, "range": [graph.symbols[i] for i in rule.range], "rows": rows})
    return {
        "name": manifest.name,
        "digest": packet.digest,
        "signer": packet.signature.keyid if packet.signature else None,
        "created": manifest.created,
        "teacher": manifest.teacher.model_dump(mode="json"),
        "embedding": manifest.embedding.model_dump(mode="json"),
        "verbalised": manifest.verbalised,
        "fallback": manifest.fallback,
        "fallback_reason": manifest.fallback_reason,
        "fidelity": manifest.fidelity.model_dump(mode="json"),
        "ledger": manifest.ledger.model_dump(mode="json"),
        "attention": _attention(packet),
        "symbols": list(graph.symbols),
        "rules": rules,
        "templates": [t.model_dump(mode="json") for t in graph.templates],
        "stop": graph.stop,
        "seed": manifest.seed,
        "libraries": manifest.libraries,
        "notes": manifest.notes,
    }


def _attention(packet: Packet) -> dict[str, Any]:
    """Edges by what cutting them does. Edges that are attended without effect are not causal, and are counted so."""
    marks = packet.attention.get("causal_M")
    edges = next((len(a) for n, a in packet.attention.items() if n.startswith("edges_M")), 0)
    found: dict[str, Any] = {"edges": edges, "causal_share": packet.manifest.fidelity.causal_edge_share}
    if marks is not None:
        found |= {
            "causal": int((marks == 1).sum()),
            "not_causal": int((marks == 0).sum()),
            "not_tested": int((marks < 0).sum()),
        }
    return found
