"""The machine form of a packet: what ``m2kt inspect --json`` prints and what comparisons and pictures start from."""

from __future__ import annotations

from typing import Any

from ._decode import decode_outputs
from ._packet import Packet


def read_outputs(packet: Packet) -> list[int | None]:
    """The K symbols that rows write, as the packet's own symbol states read them; None where it has no such states."""
    graph = packet.graph
    if not graph.n_concepts:
        return []
    if not len(packet.concepts.prototype_symbol_P):
        return [output for rule in graph.rules for output in rule.outputs]
    return list(decode_outputs(graph, packet.concepts))


def describe(packet: Packet) -> dict[str, Any]:
    """All of a packet but its numbers. ``output`` is what travels as text, ``decoded`` what the vectors say.

    ``confidence`` is the teacher's probability of what it writes at the row.
    """
    graph, manifest = packet.graph, packet.manifest
    decoded, sure_K = read_outputs(packet), packet.confidence_K

    def named(symbol: int | None) -> str | None:
        return None if symbol is None else graph.symbols[symbol]

    rules = []
    for rule in graph.rules:
        rows = [
            {
                "arguments": [graph.symbols[a] for a in row],
                "output": named(rule.outputs[i]),
                "decoded": named(decoded[rule.offset + i]),
                "support": int(packet.concepts.support_K[rule.offset + i]),
                "confidence": None if sure_K is None else round(float(sure_K[rule.offset + i]), 4),
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
