"""What packets that are to be merged have in common, and how they are to be merged."""

from __future__ import annotations

from dataclasses import dataclass, field

from m2kt.errors import PacketError
from m2kt.merging._space import Mapping, Space
from m2kt.merging._union import Union
from m2kt.packet import Method, Packet, SpaceFit

LOW_CONFIDENCE = 0.5


@dataclass(frozen=True)
class Options:
    """How packets are merged."""

    resolve: Method = "confidence"
    prefer: str | None = None
    """Digest of the source that has its way under "prefer"."""
    min_confidence: float = LOW_CONFIDENCE
    declared: tuple[tuple[str, ...], ...] = ()
    """Groups of digests that the merger declares to be of one lineage."""

    @classmethod
    def of(cls, packet: Packet) -> Options:
        """Those by which a packet was merged."""
        merged = packet.manifest.merged
        if merged is None:
            raise PacketError(f"{packet!r} was not merged: expected a packet of m2kt merge")
        declared = tuple(tuple(group) for group in merged.declared)
        return cls(merged.resolve, merged.prefer, merged.min_confidence, declared)


@dataclass
class Joint:
    """What the sources have in common, before rows are decided."""

    packets: list[Packet]
    lineage: list[int]
    kin: list[str | None]
    symbols: list[str]
    classes: list[int]
    space: Space
    union: Union
    mappings: list[Mapping | None] = field(default_factory=list)
    fits: list[SpaceFit] = field(default_factory=list)
