"""Which teachers are kin: sources of one lineage repeat each other's errors, so they vote once.

Evidence, in this order: one teacher; one base model, or one tuned from the other, as model cards say; weights so alike
that hidden states can be compared as they are, which those of models trained apart cannot; the merger's word.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from m2kt.packet import Packet

KIN_COSINE = 0.5
"""Mean cosine of common symbols' prototypes, centred, in raw coordinates, from which weights are kin.

Of models that were trained apart it is near 0, of the zoo's fine-tuned ones 0.9 and more (tests/merging)."""
MIN_SYMBOLS = 3


def lineages(packets: Sequence[Packet], declared: Sequence[Sequence[str]]) -> tuple[list[int], list[str | None]]:
    """By packet, the number of its lineage, and why it is of the lineage of one before it.

    Args:
        declared: groups of digests that the merger declares to be of one lineage.
    """
    number, reasons = list(range(len(packets))), [None] * len(packets)
    why: list[str | None] = list(reasons)
    for j, packet in enumerate(packets):
        for i in range(j):
            if number[i] == number[j]:
                continue
            reason = _kin(packets[i], packet, declared)
            if reason is not None:
                joined, kept = max(number[i], number[j]), min(number[i], number[j])
                number = [kept if n == joined else n for n in number]
                why[j] = why[j] or f"{reason} {packets[i].manifest.name} {packets[i].digest[7:19]}"
    order = {n: k for k, n in enumerate(dict.fromkeys(number))}
    return [order[n] for n in number], why


def _kin(a: Packet, b: Packet, declared: Sequence[Sequence[str]]) -> str | None:
    x, y = a.manifest.teacher, b.manifest.teacher
    if x.digest == y.digest:
        return "the teacher of"
    if (x.base is not None and x.base in (y.base, y.name)) or (y.base is not None and y.base == x.name):
        return "tuned from the base of"
    if any(a.digest in group and b.digest in group for group in declared):
        return "declared kin of"
    if prototype_cosine(a, b) >= KIN_COSINE:
        return "weights kin to those of"
    return None


def prototype_cosine(a: Packet, b: Packet) -> float:
    """Mean cosine of common symbols' prototypes in raw coordinates, centred; 0 where they cannot be compared."""
    if (a.manifest.teacher.width, a.manifest.embedding.layer) != (b.manifest.teacher.width, b.manifest.embedding.layer):
        return 0.0
    x_SD, y_SD = a.concepts.prototypes_SD, b.concepts.prototypes_SD
    index = {symbol: i for i, symbol in enumerate(b.program.symbols)}
    pairs = [(i, index[s]) for i, s in enumerate(a.program.symbols) if s in index]
    pairs = [(i, j) for i, j in pairs if x_SD[i].any() and y_SD[j].any()]
    if len(pairs) < MIN_SYMBOLS:
        return 0.0
    x_ND, y_ND = x_SD[[i for i, _ in pairs]].astype(np.float64), y_SD[[j for _, j in pairs]].astype(np.float64)
    x_ND, y_ND = x_ND - x_ND.mean(axis=0), y_ND - y_ND.mean(axis=0)
    size_N = np.linalg.norm(x_ND, axis=1) * np.linalg.norm(y_ND, axis=1)
    return float(((x_ND * y_ND).sum(axis=1) / np.maximum(size_N, 1e-12)).mean())
