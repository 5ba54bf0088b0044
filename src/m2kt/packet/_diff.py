"""Differences of two packets: provenance, symbols, rules and their outputs, vectors, states, fidelity.

Names of rules change from one extraction to the next, so rules are matched by the rows that they share, under the
order of arguments that matches best. Outputs at v = 0 are decoded by each packet's own prototypes.
"""

from __future__ import annotations

from collections.abc import Container, Hashable
from itertools import permutations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from m2kt._html import html_table

from ._describe import read_outputs
from ._describe_merged import ConflictDescription, describe_merged, supporters
from ._json import JSONObject
from ._packet import Packet
from ._pointers import Decision, Test, WriteCopy, WriteLiteral, WriteRule
from ._program import Program, State, state_name

MAX_ROWS_SHOWN = 8  # in a notebook
MAX_ORDERS_ARITY = 5  # above it, arguments are not reordered; 5! orders are tried at most


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Change(_Model):
    """A value that differs."""

    what: str = Field(description="Name of the value, such as teacher.name.")
    a: JsonValue = Field(description="Value in the first packet; null: absent.")
    b: JsonValue = Field(description="Value in the second packet.")


class RowChange(_Model):
    """A row of both rules whose output differs."""

    arguments: list[str] = Field(description="Symbols, in the first packet's order.")
    a: str | None = Field(description="Output in the first packet; null: not decodable.")
    b: str | None = Field(description="Output in the second packet.")
    supporters_a: list[str] | None = Field(
        default=None,
        exclude_if=lambda supporters: supporters is None,
        description="If the first packet was merged: digests of the packets that hold its output.",
    )
    supporters_b: list[str] | None = Field(
        default=None, exclude_if=lambda supporters: supporters is None, description="Likewise of the second."
    )


class RuleDiff(_Model):
    """Two matched rules."""

    a: str = Field(description="Name in the first packet.")
    b: str = Field(description="Name in the second packet.")
    order: list[int] = Field(description="Argument i of the first is argument order[i] of the second.")
    family_a: int = Field(description="Family in the first packet.")
    family_b: int = Field(description="Family in the second packet.")
    common: int = Field(description="Number of common rows.")
    added: list[list[str]] = Field(description="Arguments of rows of the second rule only.")
    removed: list[list[str]] = Field(description="Arguments of rows of the first rule only.")
    changed: list[RowChange] = Field(description="Common rows whose output differs.")
    cosine_mean: float | None = Field(description="Mean cosine of the common rows' vectors; null: different spaces.")
    cosine_min: float | None = Field(description="The smallest of them.")


class ProgramDiff(_Model):
    """The two programs' states, by name."""

    states: tuple[int, int] = Field(description="States of each program.")
    leaves: tuple[int, int] = Field(description="Leaves of each program.")
    added: list[str] = Field(description="States of the second only.")
    removed: list[str] = Field(description="States of the first only.")
    changed: list[str] = Field(description="Common states whose decision differs.")


class PacketDiff(_Model):
    """All differences; lists are empty where there is none."""

    a: str = Field(description="Digest of the first packet.")
    b: str = Field(description="Digest of the second packet.")
    identical: bool = Field(description="Equal manifests, and so equal parts.")
    manifest: list[Change] = Field(description="Provenance, settings and costs that differ.")
    fidelity: list[Change] = Field(description="Measurements that differ.")
    symbols_added: list[str] = Field(description="Symbols of the second only.")
    symbols_removed: list[str] = Field(description="Symbols of the first only.")
    rules: list[RuleDiff] = Field(description="Matched rules.")
    rules_added: list[str] = Field(description="Unmatched rules of the second.")
    rules_removed: list[str] = Field(description="Unmatched rules of the first.")
    same_space: bool = Field(description="Vectors of one teacher and layer, which can be compared.")
    program: ProgramDiff = Field(description="States and their decisions.")
    conflicts_a: list[ConflictDescription] = Field(description="Rows that the first packet's sources dispute.")
    conflicts_b: list[ConflictDescription] = Field(description="Rows that the second packet's sources dispute.")

    def __repr__(self) -> str:
        return f"PacketDiff({self._headline()})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """For notebooks."""
        rows = {"a": self.a, "b": self.b}
        rows |= {change.what: f"{_short(change.a)} -> {_short(change.b)}" for change in self.manifest + self.fidelity}
        for rule in self.rules:
            changed = [f"({', '.join(row.arguments)}): {row.a} -> {row.b}" for row in rule.changed[:MAX_ROWS_SHOWN]]
            more = [f"and {len(rule.changed) - MAX_ROWS_SHOWN} more"] if len(rule.changed) > MAX_ROWS_SHOWN else []
            counts = f"{len(rule.added)} rows added, {len(rule.removed)} removed, {len(rule.changed)} changed"
            rows[f"rule {rule.a} / {rule.b}"] = "; ".join([counts, *changed, *more])
        return html_table(self._headline(), rows)

    def _headline(self) -> str:
        if self.identical:
            return "identical packets"
        changed = sum(len(rule.changed) for rule in self.rules)
        states = len(self.program.added) + len(self.program.removed) + len(self.program.changed)
        return (
            f"{changed} rows write something else, {len(self.rules_added)} rules added, {len(self.rules_removed)} "
            f"removed, {states} states differ, {len(self.manifest)} facts of provenance"
        )


def _short(value: JsonValue) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def diff_packets(a: Packet, b: Packet) -> PacketDiff:
    """Compare two packets; rows and symbols are "added" from ``a`` to ``b``."""
    left, right = _Side(a), _Side(b)
    same_space = (a.manifest.teacher.digest, a.manifest.embedding.layer) == (
        b.manifest.teacher.digest,
        b.manifest.embedding.layer,
    )
    pairs = _match(left, right)
    matched_a, matched_b = {i for i, _, _ in pairs}, {j for _, j, _ in pairs}
    measured_a, measured_b = ({s.template for s in p.manifest.fidelity.shapes} for p in (a, b))
    return PacketDiff(
        a=a.digest,
        b=b.digest,
        identical=a.digest == b.digest,
        manifest=_changes(_provenance(a), _provenance(b)),
        fidelity=_changes(_fidelity(a, measured_b), _fidelity(b, measured_a)),
        symbols_added=[s for s in b.program.symbols if s not in a.program.symbols],
        symbols_removed=[s for s in a.program.symbols if s not in b.program.symbols],
        rules=[_rule(left, right, i, j, order, same_space) for i, j, order in pairs],
        rules_added=[r.name for j, r in enumerate(b.program.rules) if j not in matched_b],
        rules_removed=[r.name for i, r in enumerate(a.program.rules) if i not in matched_a],
        same_space=same_space,
        program=_program(a.program, b.program, pairs),
        conflicts_a=_conflicts(a),
        conflicts_b=_conflicts(b),
    )


def _conflicts(packet: Packet) -> list[ConflictDescription]:
    merged = describe_merged(packet, read_outputs(packet))
    return [] if merged is None else merged.conflicts


class _Side:
    """A packet with its rows by the names of their argument symbols."""

    def __init__(self, packet: Packet) -> None:
        self.program = packet.program
        self.vectors_KD = packet.concepts.vectors_KD.astype(np.float64)
        symbols, outputs = packet.program.symbols, read_outputs(packet)
        merged, held_by = packet.manifest.merged, supporters(packet)
        self.supporters_K: list[list[str]] | None = None
        if merged is not None and held_by is not None:
            self.supporters_K = [[merged.sources[i].digest for i in row] for row in held_by]
        self.written_K = [None if o is None else symbols[o] for o in outputs]
        self.rows: list[dict[tuple[str, ...], int]] = [
            {tuple(symbols[x] for x in row): rule.offset + i for i, row in enumerate(rule.rows)}
            for rule in packet.program.rules
        ]


_Pair = tuple[int, int, tuple[int, ...]]


def _match(left: _Side, right: _Side) -> list[_Pair]:
    """(rule of a, rule of b, order of arguments): greedy by similarity, each rule once, with common rows."""
    candidates: list[tuple[tuple[float, float, bool], _Pair]] = []
    for i, rows_a in enumerate(left.rows):
        arity = left.program.rules[i].arity
        identity = tuple(range(arity))
        orders = list(permutations(identity)) if arity <= MAX_ORDERS_ARITY else [identity]
        for j, rows_b in enumerate(right.rows):
            if right.program.rules[j].arity != arity:
                continue
            for order in orders:
                reordered = {tuple(k[order[x]] for x in identity): row for k, row in rows_b.items()}
                common = rows_a.keys() & reordered.keys()
                if common:
                    # rules of one family have the same rows and differ in their outputs
                    same = sum(left.written_K[rows_a[k]] == right.written_K[reordered[k]] for k in common)
                    overlap = len(common) / len(rows_a.keys() | reordered.keys())
                    candidates.append(((overlap, same / len(common), order == identity), (i, j, order)))
    pairs: list[_Pair] = []
    for _, pair in sorted(candidates, key=lambda candidate: candidate[0], reverse=True):
        if all(pair[0] != i and pair[1] != j for i, j, _ in pairs):
            pairs.append(pair)
    return sorted(pairs)


def _rule(left: _Side, right: _Side, i: int, j: int, order: tuple[int, ...], same_space: bool) -> RuleDiff:
    rows_a = left.rows[i]
    rows_b = {tuple(k[x] for x in order): row for k, row in right.rows[j].items()}
    common = [k for k in rows_a if k in rows_b]
    cosine = np.array([])
    if same_space:
        x = left.vectors_KD[[rows_a[k] for k in common]]
        y = right.vectors_KD[[rows_b[k] for k in common]]
        size = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        cosine = (x * y).sum(axis=1) / np.maximum(size, 1e-12)
    return RuleDiff(
        a=left.program.rules[i].name,
        b=right.program.rules[j].name,
        order=list(order),
        family_a=left.program.rules[i].family,
        family_b=right.program.rules[j].family,
        common=len(common),
        added=[list(k) for k in rows_b if k not in rows_a],
        removed=[list(k) for k in rows_a if k not in rows_b],
        changed=[
            RowChange(
                arguments=list(k),
                a=left.written_K[rows_a[k]],
                b=right.written_K[rows_b[k]],
                supporters_a=left.supporters_K and left.supporters_K[rows_a[k]],
                supporters_b=right.supporters_K and right.supporters_K[rows_b[k]],
            )
            for k in common
            if left.written_K[rows_a[k]] != right.written_K[rows_b[k]]
        ],
        cosine_mean=float(cosine.mean()) if len(cosine) else None,
        cosine_min=float(cosine.min()) if len(cosine) else None,
    )


# -- the program ------------------------------------------------------------------------------------------------------
def _program(a: Program, b: Program, pairs: list[_Pair]) -> ProgramDiff:
    partner = {j: (i, order) for i, j, order in pairs}
    unchanged = {i: (i, tuple(range(rule.arity))) for i, rule in enumerate(a.rules)}
    states_a, states_b = ({state_name(s.after): s for s in program.states} for program in (a, b))

    def differs(x: State, y: State) -> bool:
        return _plain(x.decision, a, unchanged) != _plain(y.decision, b, partner)

    return ProgramDiff(
        states=(len(a.states), len(b.states)),
        leaves=(a.n_leaves, b.n_leaves),
        added=[name for name in states_b if name not in states_a],
        removed=[name for name in states_a if name not in states_b],
        changed=[name for name, x in states_a.items() if name in states_b and differs(x, states_b[name])],
    )


def _plain(decision: Decision, program: Program, partner: dict[int, tuple[int, tuple[int, ...]]]) -> Hashable:
    """A decision with symbols by name, and rules by index and order of arguments of the first packet."""
    match decision:
        case WriteLiteral():
            return ("literal", decision.text)
        case WriteCopy():
            return ("copy", decision.source.model_dump_json(), decision.lead)
        case WriteRule():
            if decision.rule not in partner:
                return ("other rule", decision.rule)
            rule, order = partner[decision.rule]
            sources = tuple(decision.sources[x].model_dump_json() for x in order)
            return ("rule", rule, sources, decision.lead)
        case Test():
            # a set: the order of cases has no meaning, as their values are disjoint
            cases = frozenset(
                (frozenset(map(str, case.values)), _plain(case.then, program, partner)) for case in decision.cases
            )
            otherwise = None if decision.otherwise is None else _plain(decision.otherwise, program, partner)
            return ("test", decision.ask.model_dump_json(), cases, otherwise)


# -- the manifest -----------------------------------------------------------------------------------------------------
def _provenance(packet: Packet) -> JSONObject:
    manifest = packet.manifest
    values: JSONObject = {"name": manifest.name, "signer": packet.signature and packet.signature.keyid}
    for part in ("teacher", "embedding", "ledger"):
        values |= {f"{part}.{k}": v for k, v in getattr(manifest, part).model_dump(mode="json").items()}
    values["probes"] = packet.spec.digest
    for name in ("verbalised", "seed", "created", "fallback", "fallback_reason"):
        values[name] = getattr(manifest, name)
    for name in sorted(manifest.config):
        values[f"config.{name}"] = manifest.config[name]
    return values | {f"library.{name}": version for name, version in manifest.libraries.items()}


def _fidelity(packet: Packet, others: Container[str]) -> JSONObject:
    """Measurements; of shapes, those that the other packet measured too."""
    fidelity = packet.manifest.fidelity
    values: JSONObject = {
        name: getattr(fidelity, name) for name in ("agreement", "coverage", "probe_accuracy", "causal_edge_share")
    }
    for shape in fidelity.shapes:
        if shape.template in others:
            values[f"agreement on {shape.template}"] = shape.agreement
            values[f"coverage on {shape.template}"] = shape.coverage
    return values | dict(fidelity.other)


def _changes(a: JSONObject, b: JSONObject) -> list[Change]:
    names = dict.fromkeys([*a, *b])
    return [Change(what=n, a=a.get(n), b=b.get(n)) for n in names if a.get(n) != b.get(n)]
