"""Several packets become one: their spaces, programs, rules and rows.

A merged packet is a function of the set of its sources and the options: no order of naming, no merger in between, and
no clock matters. So taking a source out is merging the others again.
"""

from __future__ import annotations

from collections.abc import Sequence

from m2kt.errors import PacketError, SpecError
from m2kt.merging._assemble import assemble
from m2kt.merging._follow import roll_out
from m2kt.merging._joint import Joint, Options
from m2kt.merging._lineage import lineages
from m2kt.merging._space import MAX_MOVED, Mapping, Space, enter
from m2kt.merging._spec import joint_spec
from m2kt.merging._translate import classes_of_slots, translate
from m2kt.merging._union import Source, Union
from m2kt.merging._votes import METHODS
from m2kt.packet import MAX_SOURCES, Packet, Program, SpaceFit, decode_outputs, fixed_lookup, read_outputs

DEFAULTS = Options()


def merge_packets(packets: Sequence[Packet], options: Options = DEFAULTS) -> Packet:
    """One packet of several. Of one packet, named once or often, it is that packet.

    Args:
        packets: signed ones. A merged packet stands for its sources.

    Raises:
        PacketError: they cannot be merged: other programs, other ways to end, spaces that do not fit; or unsigned.
        SpecError: options that contradict each other.
    """
    sources = ordered_sources(packets)
    if options.resolve not in METHODS:
        raise SpecError(f"expected --resolve {', '.join(METHODS)}, got {options.resolve}")
    digests = [packet.digest for packet in sources]
    if (options.resolve == "prefer") != (options.prefer is not None) or options.prefer not in (None, *digests):
        raise SpecError(
            f"expected a packet to prefer with --resolve prefer alone, one of {', '.join(d[:19] for d in digests)}, "
            f"got {options.prefer} with {options.resolve}"
        )
    if not 0 <= options.min_confidence <= 1:
        raise SpecError(f"expected a confidence from 0 to 1, got {options.min_confidence}")
    if len(sources) == 1:
        return sources[0]
    return assemble(_join(sources, options), options, joint_spec(sources))


def ordered_sources(packets: Sequence[Packet]) -> list[Packet]:
    """The distinct packets that were extracted, in an order that no order of naming changes.

    First the one whose prototypes name most symbols, then the one that agrees best with its teacher: its space is used.
    """
    found: dict[str, Packet] = {}
    for packet in packets:
        for source in packet.sources or [packet]:
            if source.signature is None:
                raise PacketError(f"{source!r} is not signed: save it, load it again, and merge that")
            found.setdefault(source.digest, source)
    if not 1 <= len(found) <= MAX_SOURCES:
        raise PacketError(f"expected 1 to {MAX_SOURCES} different packets to merge, got {len(found)}")
    return [found[digest] for digest in sorted(found, key=lambda digest: _rank(found[digest], digest))]


def _rank(packet: Packet, digest: str) -> tuple[float, float, float, str]:
    fidelity = packet.manifest.fidelity
    agreed = (fidelity.agreement or 0.0) * (fidelity.coverage or 0.0)
    named = len(set(packet.concepts.prototype_symbol_P.tolist()))
    return -float(named), -agreed, -float(packet.n_concepts), digest


def _join(packets: list[Packet], options: Options) -> Joint:
    first = packets[0]
    granularities = {packet.program.granularity for packet in packets}
    if len(granularities) > 1:
        raise PacketError(
            f"expected one granularity, got {', '.join(sorted(granularities))}: one packet cuts numbers or words that "
            "another has whole; extract them with one spec"
        )
    number, kin = lineages(packets, options.declared)
    symbols, classes, slots = list(first.program.symbols), list(first.program.classes), classes_of_slots(first)
    own = [_own_source(first, first.program)]
    joint = Joint(packets, number, kin, symbols, classes, Space.of(first), Union(own[0]))
    joint.mappings.append(None)
    named = len(set(first.concepts.prototype_symbol_P.tolist()))
    joint.fits.append(SpaceFit(method="same", shared_symbols=named, new_symbols=0, error=0.0, residual=0.0, moved=0))
    for packet in packets[1:]:
        program = translate(packet, symbols, classes, slots)
        joint.space.grow(len(symbols))
        ids = [symbols.index(symbol) for symbol in packet.program.symbols]
        source = _own_source(packet, program)
        mapping, fit = enter(joint.space, packet, ids, source.output_K, packet.space == first.space)
        moved = _moved(joint.space, packet, source, mapping)
        if moved > MAX_MOVED * max(1, packet.n_concepts):
            raise PacketError(
                f"the vectors of {source.label} cannot be brought into one space: {moved} of {packet.n_concepts} rows "
                f"decode to another symbol there, expected at most {MAX_MOVED:.0%}; merge packets of more samples"
            )
        joint.union.add(source)
        joint.mappings.append(mapping)
        joint.fits.append(fit.model_copy(update={"moved": moved}))
    return joint


def _own_source(packet: Packet, program: Program) -> Source:
    ids = {symbol: i for i, symbol in enumerate(program.symbols)}
    outputs = [None if o is None else ids[packet.program.symbols[o]] for o in read_outputs(packet)]
    lookup = fixed_lookup([-1 if o is None else o for o in outputs], program)
    label = f"{packet.manifest.name} {packet.digest[7:19]} of {packet.manifest.teacher.name}"
    return Source(label, program, outputs, roll_out(program, lookup, packet.spec))


def _moved(space: Space, packet: Packet, source: Source, mapping: Mapping) -> int:
    """Rows that decode to another symbol in the merged space than in their own."""
    if not packet.n_concepts:
        return 0
    mapped = packet.concepts.replace(
        vectors_KD=mapping.points(packet.concepts.vectors_KD),
        prototypes_SD=space.prototypes_SE,
        prototype_samples_PD=space.samples_PE,
        prototype_symbol_P=space.symbol_P,
    )
    silent = source.program.model_copy(
        update={"rules": [r.model_copy(update={"outputs": [None] * len(r.rows)}) for r in source.program.rules]}
    )
    return sum(a != b for a, b in zip(decode_outputs(silent, mapped), source.output_K, strict=True))


def without(packet: Packet, *digests: str) -> Packet:
    """The packet that merging the other sources in the same way would have given.

    Raises:
        PacketError: the packet was not merged, a digest is none of its sources, or all of them are.
    """
    options, sources = Options.of(packet), packet.sources
    present = {source.digest for source in sources}
    if absent := [digest for digest in digests if digest not in present]:
        raise PacketError(
            f"{absent[0]} is not among the packets that {packet!r} was merged from: expected one of "
            f"{', '.join(sorted(present))}"
        )
    left = [source for source in sources if source.digest not in digests]
    if not left:
        raise PacketError(f"expected at least one packet to be left of {packet!r}, got all of them to take out")
    if options.prefer in digests and len(left) > 1:
        raise PacketError(
            f"{packet!r} was merged with {options.prefer} preferred, which is to be taken out: nothing says how the "
            "others' conflicts are decided; merge them anew with another --resolve"
        )
    if len(left) == 1:
        return left[0]
    kept = {source.digest for source in left}
    declared = tuple(group for group in options.declared if len(kept.intersection(group)) > 1)
    declared = tuple(tuple(d for d in group if d in kept) for group in declared)
    return merge_packets(left, Options(options.resolve, options.prefer, options.min_confidence, declared))
