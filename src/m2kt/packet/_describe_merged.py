"""What a merged packet's conflicts and supporters are, with what each side writes, decoded as any row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ._decode import NearestPrototype
from ._merged import DISSENT, SUPPORTERS, SUPPORTS, Merged, MergedSource, Method, StateDifference

if TYPE_CHECKING:
    from ._packet import Packet


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SideDescription(_Model):
    """Sources that agree on a row."""

    output: str | None = Field(description="What they write, decoded in the merged space; null: not decodable.")
    sources: list[int] = Field(description="Indices of the sources.")


class ConflictDescription(_Model):
    """A row for which sources write different symbols."""

    rule: str = Field(description="Name of the rule.")
    arguments: list[str] = Field(description="Symbols of the row.")
    sides: list[SideDescription] = Field(description="The first is what the row holds.")
    decided: bool = Field(description="False: kept as a dissent.")
    confidence: float = Field(description="Probability of the first side, by the method.")


class MergedDescription(_Model):
    """How a packet was merged, and from what."""

    resolve: Method = Field(description="How conflicts were decided.")
    prefer: str | None = Field(description="Digest of the source that has its way.")
    min_confidence: float = Field(description="Rows below it are left to another source that has them.")
    sources: list[MergedSource] = Field(description="The packets; the first one's space is this packet's.")
    lineages: int = Field(description="Lineages among them; each has one vote.")
    states: list[StateDifference] = Field(description="Where the program differs from a source's, on rare texts.")
    shared_rows: int = Field(description="Rows that several sources hold.")
    yielded: int = Field(description="Rows below the confidence, left to another source.")
    conflicts: list[ConflictDescription] = Field(description="Rows in conflict.")


def describe_merged(packet: Packet, outputs: list[int | None]) -> MergedDescription | None:
    """The description; None for a packet that was not merged.

    Args:
        outputs: by row the symbol it writes, of :func:`read_outputs`.
    """
    merged = packet.manifest.merged
    if merged is None:
        return None
    copied = ("resolve", "prefer", "min_confidence", "sources", "states", "shared_rows", "yielded")
    return MergedDescription(
        lineages=len({source.lineage for source in merged.sources}),
        conflicts=_conflicts(packet, merged, outputs),
        **{name: getattr(merged, name) for name in copied},
    )


def supporters(packet: Packet) -> list[list[int]] | None:
    """By row, the sources that hold its output; None for a packet that was not merged."""
    if packet.manifest.merged is None:
        return None
    return [np.flatnonzero(row == SUPPORTS).tolist() for row in packet.traces[SUPPORTERS]]


def _conflicts(packet: Packet, merged: Merged, outputs: list[int | None]) -> list[ConflictDescription]:
    symbols = packet.program.symbols
    rows = {
        (rule.name, tuple(symbols[x] for x in row)): (rule, rule.offset + i)
        for rule in packet.program.rules
        for i, row in enumerate(rule.rows)
    }
    lost = iter(_decoded(packet))
    described = []
    for conflict in merged.conflicts:
        _, k = rows[conflict.rule, tuple(conflict.arguments)]
        written = [outputs[k], *(next(lost) for _ in conflict.sides[1:])]
        described.append(
            ConflictDescription(
                rule=conflict.rule,
                arguments=conflict.arguments,
                sides=[
                    SideDescription(output=None if output is None else symbols[output], sources=side)
                    for output, side in zip(written, conflict.sides, strict=True)
                ],
                decided=conflict.decided,
                confidence=conflict.confidence,
            )
        )
    return described


def _decoded(packet: Packet) -> list[int | None]:
    """The symbols of the lost sides' vectors."""
    concepts, dissent_QD = packet.concepts, packet.traces[DISSENT].astype(np.float32)
    if not len(concepts.prototype_symbol_P) or not len(dissent_QD):
        return [None] * len(dissent_QD)
    decoder = NearestPrototype(
        concepts.prototype_samples_PD.astype(np.float32),
        concepts.prototype_symbol_P,
        concepts.prototypes_SD.astype(np.float32),
    )
    return [int(symbol) for symbol in decoder.predict(dissent_QD)]
