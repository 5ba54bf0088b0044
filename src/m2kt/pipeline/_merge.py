"""Merge and unmerge: several packets of one skill become one, and one of them is taken out again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from pydantic import Field

from m2kt import merging
from m2kt.errors import SpecError
from m2kt.merging import LOW_CONFIDENCE, METHODS, Options, merge_packets, ordered_sources
from m2kt.packet import MergedDescription, Method, Packet, TrustPolicy, check_target, describe
from m2kt.pipeline._adapters import check_writable
from m2kt.pipeline._receipt import check_origin
from m2kt.pipeline._report import Progress, Report, Result, no_progress, to_report
from m2kt.pipeline._statements import local_signer
from m2kt.remote import open_packet

AnyPacket = str | Path | Packet


class Merging(Result):
    """A packet that was merged, or what was left when a source was taken out."""

    packet: Packet = Field(description="Signed if it was saved.")
    path: Path | None = Field(description="Where the packet was saved.")
    merged: MergedDescription | None = Field(
        description="Sources, lineages, conflicts; null: one packet is left, as it was."
    )

    def report(self) -> Report:
        return {
            "packet": None if self.path is None else str(self.path),
            "digest": self.packet.digest,
            "concepts": self.packet.n_concepts,
            "rules": len(self.packet.program.rules),
            "states": len(self.packet.program.states),
            "packet_bytes": self.packet.size_bytes,
            "merged": None if self.merged is None else to_report(self.merged),
        }

    def headline(self) -> str:
        n = 1 if self.merged is None else len(self.merged.sources)
        return f"{self.packet.manifest.name}: {n} packet{'s' * (n > 1)}, {self.packet.n_concepts} concepts; {self.path}"

    def table(self) -> dict[str, str]:
        rows = {"packet": str(self.path), "digest": self.packet.digest}
        if self.merged is None:
            return {**rows, "merged from": "one packet, which is as it was"}
        undecided = sum(not conflict.decided for conflict in self.merged.conflicts)
        return {
            **rows,
            "sources": "\n".join(f"{s.name} {s.digest[7:19]} of {s.teacher}" for s in self.merged.sources),
            "lineages": f"{self.merged.lineages}, each with one vote",
            "rows of several sources": f"{self.merged.shared_rows} of {self.packet.n_concepts}",
            "rows in conflict": f"{len(self.merged.conflicts)}, {undecided} of them undecided",
            "rows left to better teachers": str(self.merged.yielded),
            "resolved by": self.merged.resolve,
        }

    def remarks(self) -> list[str]:
        if self.merged is None:
            return []
        kin = [f"{s.name} {s.digest[7:19]} is of one lineage: {s.kin}" for s in self.merged.sources if s.kin]
        states = [
            f"state {s.state!r} is not as in source {s.source}: {s.texts} of its {s.of} rollouts come out otherwise"
            for s in self.merged.states
        ]
        shown = [
            f"{c.rule}({', '.join(c.arguments)}): "
            + ", ".join(f"{side.output} by {' '.join(map(str, side.sources))}" for side in c.sides)
            + ("" if c.decided else ", undecided")
            for c in self.merged.conflicts[:SHOWN]
        ]
        more = len(self.merged.conflicts) - SHOWN
        return [*kin, *states, *shown, *([f"and {more} more conflicts: m2kt inspect shows them"] if more > 0 else [])]


SHOWN = 5


def merge(
    *packets: AnyPacket | Sequence[AnyPacket],
    out: str | Path | None = None,
    resolve: str = "confidence",
    prefer: AnyPacket | None = None,
    min_confidence: float = LOW_CONFIDENCE,
    lineages: Iterable[Sequence[AnyPacket]] = (),
    trust: str | Path | TrustPolicy | None = None,
    key: Path | None = None,
    progress: Progress | None = None,
) -> Merging:
    """Merges signed packets of one skill into one whose every row says who supports it.

    The same packets and options give the same packet, in whatever order they are named. A merged packet stands for its
    sources. The sources travel in the packet, so that :func:`unmerge` can take any of them out.

    Args:
        packets: packets, their paths, or references (:mod:`m2kt.remote`).
        out: where to write; the packet is signed then.
        resolve: how rows are decided that teachers contradict each other in: "confidence" (the lineages' probabilities
            are averaged), "vote" (lineages are counted), "dawid-skene" (weighted by estimated reliability; needs
            ``m2kt[merge]``), "prefer" or "prefer A" (A has its way), "keep" (undecided, kept as a dissent).
        prefer: the packet that has its way under "prefer".
        min_confidence: rows below it are left to a teacher that is sure of them.
        lineages: groups of packets whose teachers are kin; others are found by digest, base model and weights.
        trust: the policy that must accept every packet; without one, origins are not checked.
        key: signs the packet; by default the local key.

    Raises:
        PacketError: the packets cannot be merged, and why.
        SpecError: options that contradict each other.
        TrustError: a packet was revoked, or the policy does not accept it.
        StorageError: it cannot be written.
    """
    say = progress or no_progress
    named = [p for one in packets for p in ([one] if isinstance(one, str | Path | Packet) else one)]
    if out is not None:
        local_signer()  # before the work
        check_target(Path(out))
        check_writable(out)
    opened = [open_packet(packet, partial(say, "fetching packets")) for packet in named]
    for packet in opened:
        check_origin(packet, trust)
    known = dict(zip(map(str, named), opened, strict=True))
    method, preferred = _method(resolve, prefer, named)
    options = Options(
        resolve=method,
        prefer=None if preferred is None else _digest(preferred, known),
        min_confidence=min_confidence,
        declared=tuple(sorted(tuple(sorted(_digest(p, known) for p in group)) for group in lineages)),
    )
    say("merging", 0, len(opened))
    return _written(merge_packets(opened, options), out, key)


def unmerge(
    packet: AnyPacket,
    without: AnyPacket | Sequence[AnyPacket],
    *,
    out: str | Path | None = None,
    key: Path | None = None,
) -> Merging:
    """Takes packets out of a merged one: the result is, bit for bit, what merging the others gives.

    Of two sources the other one is left as it was, with its own signature.

    Args:
        without: the packets to take out: packets, paths, references, or digests.
        out: where to write; where ``packet`` is a path and nothing is given, in its place.

    Raises: PacketError where the packet was not merged, or not from those.
    """
    opened = open_packet(packet)
    if out is None and not isinstance(packet, Packet) and Path(packet).exists():
        out = packet
    listed = [without] if isinstance(without, str | Path | Packet) else list(without)
    sources = {source.digest: source for source in opened.sources}
    digests = [digest for one in listed for digest in _digests(one, sources)]
    return _written(merging.without(opened, *dict.fromkeys(digests)), out, key)


def _written(packet: Packet, out: str | Path | None, key: Path | None) -> Merging:
    path = None
    if out is not None:
        path = packet.save(out, key=key if packet.manifest.merged is not None else None)
        packet = Packet.load(path)
    return Merging(packet=packet, path=path, merged=describe(packet).merged)


def _method(resolve: str, prefer: AnyPacket | None, named: Sequence[AnyPacket]) -> tuple[Method, AnyPacket | None]:
    """The method, and the preferred packet: by its own argument, or behind the word, or as the one named twice."""
    word, _, rest = resolve.strip().partition(" ")
    if word not in METHODS:
        raise SpecError(f"expected --resolve {', '.join(METHODS)}, got {resolve!r}; choose one of them")
    method = next(m for m in METHODS if m == word)
    if method != "prefer":
        if rest or prefer is not None:
            raise SpecError(f"expected a packet to prefer with --resolve prefer alone, got it with {resolve!r}")
        return method, None
    if rest or prefer is not None:
        return method, rest.strip() or prefer
    twice = [p for i, p in enumerate(named) if str(p) in {str(q) for q in named[:i]}]
    if len(twice) != 1:
        raise SpecError("expected the packet that has its way, got none; write --resolve 'prefer A' with one of them")
    return method, twice[0]


def _digest(packet: AnyPacket, known: dict[str, Packet]) -> str:
    """Digest of a packet that is named by its path as given, by a digest, or by itself."""
    if isinstance(packet, Packet):
        return packet.digest
    if str(packet) in known:
        return known[str(packet)].digest
    digests = [source.digest for source in ordered_sources(list(known.values()))]
    if str(packet) in digests:
        return str(packet)
    return open_packet(packet).digest


def _digests(packet: AnyPacket, sources: dict[str, Packet]) -> list[str]:
    """Digests of a packet, or of the sources of a merged one; by its digest, name, path or itself."""
    if isinstance(packet, str):
        named = [d for d, source in sources.items() if packet in (d, d[7:], source.manifest.name)]
        if len(named) == 1 and not Path(packet).exists():
            return named
        if len(packet) >= 12 and (short := [d for d in sources if d[7:].startswith(packet.removeprefix("sha256:"))]):
            return short
    return [source.digest for source in ordered_sources([open_packet(packet)])]
