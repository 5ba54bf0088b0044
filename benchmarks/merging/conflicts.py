"""Planted conflicts: which are found, which rows come out right, how calibrated the decisions are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

import m2kt
from benchmarks.merging.teachers import TRUE, Table, altered, other_lineage, packet, teacher
from m2kt.packet import Packet, read_outputs

RATES = (0.05, 0.1, 0.2)
METHODS = ("confidence", "vote", "dawid-skene", "keep")
BINS = 10
Say = Callable[[str], object]


@dataclass(frozen=True)
class Measured:
    """One merge of one set of teachers."""

    errors: str
    share: float
    resolve: str
    planted: int
    recall: float
    alarms: int
    majority: int
    right_of_majority: float
    right: float
    best_single: float
    regret: float
    calibration_error: float

    def line(self) -> str:
        """A row of a Markdown table."""
        return (
            f"| {self.errors} | {self.share:.0%} | {self.resolve} | {self.planted} | {self.recall:.1%} | {self.alarms} "
            f"| {self.right_of_majority:.1%} of {self.majority} | {self.right:.1%} | {self.best_single:.1%} "
            f"| {self.regret:+.1%} | {self.calibration_error:.3f} |"
        )


HEAD = (
    "| errors | rows altered | resolve | rows in conflict | found | false | right where most lineages are | right "
    "| best single | regret | calibration error |\n| --- |" + " --- |" * 10
)


Held = dict[tuple[str, str], tuple[str | None, float]]
"""Output and confidence by row."""


def table_of(of: Packet) -> Held:
    """What a packet's rule of two letters writes by row, and its confidence."""
    symbols, outputs, confidence_K = of.program.symbols, read_outputs(of), of.confidence_K
    assert confidence_K is not None
    rule = max(of.program.rules, key=lambda r: len(r.rows))
    held: Held = {}
    for k, row in zip(rule.concepts, rule.rows, strict=True):
        output = outputs[k]
        held[symbols[row[0]], symbols[row[1]]] = (
            None if output is None else symbols[output],
            float(confidence_K[k]),
        )
    return held


def oriented(found: Held, table: Table) -> Held:
    """Rows with the state first, as in the true table: a packet may name its arguments in either order."""
    straight = sum(found[row][0] == table[row] for row in found if row in table)
    turned = sum(found[row][0] == table[row[1], row[0]] for row in found)
    return {(row if straight >= turned else (row[1], row[0])): value for row, value in found.items()}


def measure(errors: str, share: float, packets: Sequence[Packet], lineage: Sequence[int], resolve: str) -> Measured:
    """Merge and compare with what the packets themselves hold."""
    held = [oriented(table_of(p), TRUE) for p in packets]
    merged = m2kt.merge(list(packets), resolve=resolve)
    about = merged.merged
    assert about is not None
    out = oriented(table_of(merged.packet), TRUE)
    first = table_of(merged.packet)
    is_turned = set(first) == set(out) and any(first[row] != out[row] for row in first)
    disputed = {row for row in TRUE if len({h[row][0] for h in held if row in h}) > 1}
    found = {tuple(reversed(c.arguments)) if is_turned else tuple(c.arguments) for c in about.conflicts}
    majority = [row for row in TRUE if _most(held, lineage, row) == TRUE[row]]
    right = {row: out[row][0] == TRUE[row] for row in TRUE}
    single = max(float(np.mean([h[row][0] == TRUE[row] for row in TRUE])) for h in held)
    share_right = float(np.mean(list(right.values())))
    return Measured(
        errors=errors,
        share=share,
        resolve=resolve,
        planted=len(disputed),
        recall=len(disputed & found) / max(1, len(disputed)),
        alarms=len(found - disputed),
        majority=len(majority),
        right_of_majority=float(np.mean([right[row] for row in majority])),
        right=share_right,
        best_single=single,
        regret=single - share_right,
        calibration_error=_calibration([out[row][1] for row in TRUE], [right[row] for row in TRUE]),
    )


def _most(held: Sequence[Held], lineage: Sequence[int], row: tuple[str, str]) -> object:
    """What more than half of the lineages hold; None where there is no such output."""
    says: dict[int, set[object]] = {}
    for number, table in zip(lineage, held, strict=True):
        says.setdefault(number, set()).add(table[row][0])
    votes = [next(iter(outputs)) for outputs in says.values() if len(outputs) == 1]
    best = max(set(votes), key=votes.count, default=None)
    return best if votes.count(best) > len(says) / 2 else None


def _calibration(confidence: Sequence[float], right: Sequence[bool]) -> float:
    """Expected calibration error over ten bins of equal width."""
    p, y = np.array(confidence), np.array(right, dtype=float)
    which = np.minimum((p * BINS).astype(int), BINS - 1)
    return float(sum(abs(p[which == b].mean() - y[which == b].mean()) * (which == b).mean() for b in set(which)))


def conflicts(work: Path, say: Say, rates: Sequence[float] = RATES) -> list[dict[str, object]]:
    """Three teachers with independent errors; and two copies of one lineage against an honest pair."""
    results = []
    say(HEAD)
    for share in rates:
        a, b, c, copy = _taught(work, share)
        honest = [other_lineage(_honest(work), work / "lineages", i) for i in (3, 4)]
        for resolve in METHODS:
            for errors, packets, lineage in (
                ("independent", [a, b, c], [0, 1, 2]),
                ("shared by two kin", [a, copy, b, c], [0, 0, 1, 2]),
                ("shared by two kin, against an honest pair", [a, copy, *honest], [0, 0, 1, 2]),
            ):
                result = measure(errors, share, packets, lineage, resolve)
                say(result.line())
                results.append(asdict(result))
    return results


def _taught(work: Path, share: float) -> list[Packet]:
    """Three teachers of different lineages, and a copy of the first: the same errors, kin by weights."""
    packets = []
    for name, errors, seed, lineage in (("a", 1, 5, 0), ("b", 2, 5, 1), ("c", 3, 5, 2), ("a-copy", 1, 7, 0)):
        full, table = f"{name}-{share:g}", altered(share, errors + round(1000 * share))
        taught = packet(work, full, partial(teacher, work, full, table, seed))
        packets.append(other_lineage(taught, work / "lineages", lineage))
    return packets


def _honest(work: Path) -> Packet:
    from m2kt.models import resolve

    return packet(work, "secret", lambda: Path(resolve("zoo:secret")))
