"""The merged packet's parts: rows with their vectors, who supports them, conflicts, the sources themselves.

K rows, N sources, D width, r directions of spread, Q lost sides.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2kt.merging._joint import Joint, Options
from m2kt.merging._space import Mapping
from m2kt.merging._union import JointRule, Row
from m2kt.merging._votes import Claim, Decided, Rows, decide
from m2kt.packet import (
    CONTRADICTS,
    DISSENT,
    LOW,
    ORIGIN,
    PACKETS,
    SUPPORTERS,
    SUPPORTS,
    Concepts,
    Conflict,
    Decision,
    Fidelity,
    Ledger,
    Manifest,
    Merged,
    MergedSource,
    Packet,
    Program,
    Rule,
    WriteRule,
    decodes_with_margin,
    leaves,
    with_leaves,
)
from m2kt.probes import ProbeSpec

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class _Table:
    """Rows of all rules in concept order, with what sources say of them."""

    rows: list[tuple[int, Row]]
    """Joint rule, arguments."""
    claims: list[list[Claim]]
    """Those that count."""
    low: list[list[Claim]]
    """Those that are left to better teachers."""


def assemble(joint: Joint, options: Options, spec: ProbeSpec) -> Packet:
    """The packet: unsigned, like any variant, until it is saved."""
    kept = _used(joint)
    table = _table(joint, kept, options.min_confidence)
    preferred = next((i for i, p in enumerate(joint.packets) if p.digest == options.prefer), None)
    teachers = [packet.manifest.teacher.digest for packet in joint.packets]
    rows = Rows(table.claims, joint.lineage, teachers, joint.symbols)
    decided = decide(rows, options.resolve, preferred)
    origin = [_origin(claims, d) for claims, d in zip(table.claims, decided, strict=True)]
    program = _program(joint, kept, table, origin)
    concepts, dissent_QD, conflicts = _concepts(joint, table, decided, origin)
    files = [packet.file_bytes() for packet in joint.packets]
    traces = {
        "confidence_K": np.array([d.confidence for d in decided], dtype=np.float32).clip(0, 1),
        ORIGIN: np.array([claim.source for claim in origin], dtype=np.int32),
        SUPPORTERS: _supporters(table, origin, len(joint.packets)),
        DISSENT: dissent_QD,
        PACKETS: np.frombuffer(b"".join(files), dtype=np.uint8),
    }
    merged = Merged(
        resolve=options.resolve,
        prefer=options.prefer,
        min_confidence=options.min_confidence,
        declared=[sorted(group) for group in sorted(options.declared)],
        sources=_sources(joint, files),
        states=joint.union.differences(),
        shared_rows=sum(len(claims) + len(low) > 1 for claims, low in zip(table.claims, table.low, strict=True)),
        yielded=sum(bool(low) for low in table.low),
        conflicts=[
            Conflict(
                rule=joint.union.rules[table.rows[k][0]].name,
                arguments=[joint.symbols[x] for x in table.rows[k][1]],
                sides=sides,
                decided=decided[k].decided,
                confidence=round(min(1.0, decided[k].confidence), 6),
            )
            for k, sides in conflicts
        ],
    )
    return Packet(_manifest(joint, spec, merged), program, spec, concepts, {}, traces)


# -- rows -------------------------------------------------------------------------------------------------------------
def _used(joint: Joint) -> list[int]:
    """Joint rules that the program applies, in order."""
    applied = {leaf.rule for d in joint.union.states.values() for leaf in leaves(d) if isinstance(leaf, WriteRule)}
    return [j for j in range(len(joint.union.rules)) if j in applied]


def _table(joint: Joint, kept: list[int], min_confidence: float) -> _Table:
    sources = joint.union.sources
    confidence = [_confidences(packet) for packet in joint.packets]
    table = _Table([], [], [])
    for j in kept:
        by_row: dict[Row, list[Claim]] = {}
        for member in joint.union.rules[j].members:
            for row, k in sources[member.source].table(member.rule, member.order).items():
                claims = by_row.setdefault(row, [])
                if all(claim.source != member.source for claim in claims):  # two of its rules became one
                    output = sources[member.source].output_K[k]
                    claims.append(Claim(member.source, k, output, float(confidence[member.source][k])))
        for row, claims in by_row.items():
            sure = [claim for claim in claims if claim.confidence >= min_confidence]
            table.rows.append((j, row))
            table.claims.append(sure or claims)
            table.low.append([claim for claim in claims if sure and claim not in sure])
    return table


def _confidences(packet: Packet) -> NDArray[np.float64]:
    """The teacher's probability of what it writes; 0 where the vector cannot be read, 1 where it was not measured."""
    if not packet.n_concepts:
        return np.zeros(0)
    known = packet.confidence_K
    p_K = np.ones(packet.n_concepts) if known is None else known.astype(np.float64)
    if not len(packet.concepts.prototype_symbol_P):
        return p_K
    verbalised_K = np.array([o is not None for rule in packet.program.rules for o in rule.outputs])
    return np.where(decodes_with_margin(packet.concepts) | verbalised_K, p_K, 0.0)


def _origin(claims: list[Claim], decided: Decided) -> Claim:
    """Whose vector a row has: the first source's where it supports the output, else the most confident supporter's."""
    supporting = [claim for claim in claims if claim.output == decided.outputs[0]]
    return min(supporting, key=lambda claim: (claim.source != 0, -claim.confidence, claim.source))


def _supporters(table: _Table, origin: list[Claim], n: int) -> NDArray[np.uint8]:
    supporters_KN = np.zeros((len(table.rows), n), dtype=np.uint8)
    for k, (claims, low) in enumerate(zip(table.claims, table.low, strict=True)):
        for claim in claims:
            supporters_KN[k, claim.source] = SUPPORTS if claim.output == origin[k].output else CONTRADICTS
        for claim in low:
            supporters_KN[k, claim.source] = LOW
    return supporters_KN


# -- parts ------------------------------------------------------------------------------------------------------------
def _program(joint: Joint, kept: list[int], table: _Table, origin: list[Claim]) -> Program:
    union, rules = joint.union, []
    new = {j: i for i, j in enumerate(kept)}
    states = union.program(joint.symbols, joint.classes).states
    applied = [leaf.rule for state in states for leaf in leaves(state.decision) if isinstance(leaf, WriteRule)]
    offset = 0
    for j in kept:
        ks = [k for k, (rule, _) in enumerate(table.rows) if rule == j]
        rules.append(
            _rule(
                joint, union.rules[j], [table.rows[k][1] for k in ks], [origin[k] for k in ks], offset, applied.count(j)
            )
        )
        offset += len(ks)
    renamed = [state.model_copy(update={"decision": _renumbered(state.decision, new)}) for state in states]
    first = joint.packets[0].program
    return first.model_copy(
        update={"symbols": list(joint.symbols), "classes": list(joint.classes), "rules": rules, "states": renamed}
    )


def _renumbered(decision: Decision, new: dict[int, int]) -> Decision:
    return with_leaves(
        decision,
        lambda leaf: leaf.model_copy(update={"rule": new[leaf.rule]}) if isinstance(leaf, WriteRule) else leaf,
    )


def _rule(joint: Joint, rule: JointRule, rows: list[Row], origin: list[Claim], offset: int, uses: int) -> Rule:
    symbols: set[int] = set()
    for member in rule.members:
        symbols |= set(joint.union.sources[member.source].program.rules[member.rule].range)
    outputs = [_verbalised(joint, claim) for claim in origin]
    return Rule(
        name=rule.name,
        arity=rule.arity,
        rows=rows,
        outputs=outputs,
        range=sorted(symbols),
        family=rule.family,
        offset=offset,
        uses=uses,
    )


def _verbalised(joint: Joint, claim: Claim) -> int | None:
    """A row's output as text, where its vector's source sent it so."""
    program = joint.union.sources[claim.source].program
    return next(rule.outputs[claim.concept - rule.offset] for rule in program.rules if claim.concept in rule.concepts)


def _concepts(
    joint: Joint, table: _Table, decided: list[Decided], origin: list[Claim]
) -> tuple[Concepts, Floats, list[tuple[int, list[list[int]]]]]:
    """Concepts of the rows, vectors of lost sides, and (row, sides) of the conflicts."""
    directions = max(packet.concepts.spread_scale_Kr.shape[1] for packet in joint.packets)
    mapped = [_mapped(p.concepts, m, directions) for p, m in zip(joint.packets, joint.mappings, strict=True)]
    space = joint.space

    def of_rows(name: str) -> Floats:
        stacked = [getattr(mapped[claim.source], name)[claim.concept] for claim in origin]
        like = getattr(mapped[0], name)
        return np.array(stacked, dtype=like.dtype).reshape(len(origin), *like.shape[1:])

    conflicts, lost = [], []
    for k, (claims, d) in enumerate(zip(table.claims, decided, strict=True)):
        if len(d.outputs) < 2:
            continue
        sides = [[claim for claim in claims if claim.output == output] for output in d.outputs]
        conflicts.append((k, [[claim.source for claim in side] for side in sides]))
        for side in sides[1:]:
            best = max(side, key=lambda claim: (claim.confidence, -claim.source))
            lost.append(mapped[best.source].vectors_KD[best.concept])
    width = space.prototypes_SE.shape[1]
    concepts = Concepts(
        vectors_KD=of_rows("vectors_KD"),
        spread_basis_KrD=of_rows("spread_basis_KrD"),
        spread_scale_Kr=of_rows("spread_scale_Kr"),
        support_K=np.array([mapped[c.source].support_K[c.concept] for c in origin], dtype=np.int32),
        prototypes_SD=space.prototypes_SE.astype(np.float32),
        prototype_count_S=space.count_S.astype(np.int32),
        prototype_samples_PD=space.samples_PE.astype(np.float32),
        prototype_symbol_P=space.symbol_P.astype(np.int32),
    )
    return concepts, np.array(lost, dtype=np.float32).reshape(len(lost), width), conflicts


def _mapped(concepts: Concepts, mapping: Mapping | None, directions: int) -> Concepts:
    """A source's rows in the merged space, with the same number of directions of spread for all."""
    basis_KrD, scale_Kr = concepts.spread_basis_KrD, concepts.spread_scale_Kr
    vectors_KD = concepts.vectors_KD.astype(np.float32)
    if mapping is not None:
        vectors_KD = mapping.points(vectors_KD)
        moved_KrD = mapping.directions(basis_KrD * scale_Kr[..., None])
        size_Kr = np.linalg.norm(moved_KrD, axis=-1)
        basis_KrD, scale_Kr = moved_KrD / np.maximum(size_Kr, 1e-12)[..., None], size_Kr
    more = directions - scale_Kr.shape[1]
    return concepts.replace(
        vectors_KD=vectors_KD,
        spread_basis_KrD=np.pad(basis_KrD.astype(np.float32), ((0, 0), (0, more), (0, 0))),
        spread_scale_Kr=np.pad(scale_Kr.astype(np.float32), ((0, 0), (0, more))),
    )


def _sources(joint: Joint, files: list[bytes]) -> list[MergedSource]:
    found = []
    for i, (packet, file) in enumerate(zip(joint.packets, files, strict=True)):
        teacher, signature = packet.manifest.teacher, packet.signature
        assert signature is not None
        found.append(
            MergedSource(
                digest=packet.digest,
                name=packet.manifest.name,
                teacher=teacher.name,
                teacher_digest=teacher.digest,
                licence=teacher.licence,
                signers=[signature.keyid, *sorted(set(signature.keyids) - {signature.keyid})],
                lineage=joint.lineage[i],
                kin=joint.kin[i],
                space=joint.fits[i],
                bytes=len(file),
                sha256=hashlib.sha256(file).hexdigest(),
            )
        )
    return found


def _manifest(joint: Joint, spec: ProbeSpec, merged: Merged) -> Manifest:
    """Metadata by the sources': nothing of it was measured on the merged packet."""
    manifests = [packet.manifest for packet in joint.packets]
    ledgers = [manifest.ledger for manifest in manifests]
    first = manifests[0]
    return first.model_copy(
        update={
            "name": spec.name,
            "created": max(manifest.created for manifest in manifests),
            "verbalised": max(manifest.verbalised for manifest in manifests),
            "fidelity": Fidelity(),
            "equality": None,  # of a source; each holds its own
            "ledger": Ledger(
                **{
                    name: sum(getattr(ledger, name) for ledger in ledgers)
                    for name in ("labelled_examples", "teacher_passes", "teacher_tokens_in_traces", "seconds")
                }
            ),
            "fallback": any(manifest.fallback for manifest in manifests),
            "notes": [f"merged from {len(manifests)} packets; fidelity was measured on each of them alone"],
            "merged": merged,
        }
    )
