"""Merged packets in a student: halves of a table, and teachers of several architectures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

import m2kt
from benchmarks.merging.conflicts import Say, _honest, oriented, table_of
from benchmarks.merging.teachers import TRUE, other_lineage, packet, teacher
from m2kt.packet import Packet

STUDENT = "zoo:pico-llama"
HEAD = "| packet | rows right | student's answers right [95 %] | gap recovered |\n| --- | --- | --- | --- |"


def half(of: Packet, folder: Path, keep: int) -> Packet:
    """A packet with every second row of its rules: what a teacher would send that was asked half of the questions."""
    rules, kept, offset = [], [], 0
    for rule in of.program.rules:
        rows = [i for i in range(len(rule.rows)) if (rule.offset + i) % 2 == keep]
        kept += [rule.offset + i for i in rows]
        update = {
            "rows": [rule.rows[i] for i in rows],
            "outputs": [rule.outputs[i] for i in rows],
            "offset": offset,
        }
        rules.append(rule.model_copy(update=update))
        offset += len(rows)
    index_K = np.array(kept)
    confidence_K = of.confidence_K
    assert confidence_K is not None
    variant = of.replace(
        program=of.program.model_copy(update={"rules": rules}),
        concepts=of.concepts.take(index_K),
        traces={"confidence_K": np.ascontiguousarray(confidence_K[index_K])},
        attention={},
    )
    folder.mkdir(parents=True, exist_ok=True)
    return Packet.load(variant.save(folder / f"half-{keep}-{of.digest[7:15]}.m2kp"))


def students(work: Path, say: Say) -> list[dict[str, object]]:
    """Halves alone and merged; three architectures alone and merged. Each is ingested by one student."""
    whole, folder = _honest(work), work / "halves"
    halves = [half(whole, folder, 0), half(other_lineage(whole, folder, 1), folder, 1)]
    cases: list[tuple[str, Sequence[Packet]]] = [
        ("even rows", halves[:1]),
        ("odd rows, another space", halves[1:]),
        ("both halves", halves),
    ]
    anew = [
        packet(work, f"secret-{name}", partial(teacher, work, f"secret-{name}", TRUE, 11, name))
        for name in ("llama", "neox")
    ]
    cases += [("GPT-2, characters", [whole]), ("Llama, BPE", anew[:1]), ("GPT-NeoX, bytes", anew[1:])]
    cases += [("GPT-2 + Llama + GPT-NeoX", [whole, *anew])]
    say(HEAD)
    results: list[dict[str, object]] = []
    for name, packets in cases:
        merged = m2kt.merge(list(packets)).packet
        rows = oriented(table_of(merged), TRUE)
        right = sum(rows[row][0] == TRUE[row] for row in rows) / len(TRUE)
        result = m2kt.ingest(STUDENT, merged, work / "adapters" / name.replace(" ", "-"), probes="zoo:secret")
        verdict = result.verdict
        bounds = "" if verdict.interval is None else f" [{verdict.interval[0]:.1%}, {verdict.interval[1]:.1%}]"
        gap = "" if verdict.gap_recovered is None else f"{verdict.gap_recovered:.3f}"
        say(f"| {name} | {right:.1%} | {verdict.accuracy:.1%}{bounds} of {verdict.n} | {gap} |")
        results.append({"packet": name, "rows": right, "accuracy": verdict.accuracy, "n": verdict.n, "gap": gap})
    return results
