"""What differs between two packets: provenance, symbols, rules and what their rows say, vectors, graph, fidelity.

Rules have no names that last from one extraction to the next, so they are matched by the rows that they share, under
the order of arguments that fits best. Outputs at v = 0 are what each packet's own symbol states read.
"""

from __future__ import annotations

from collections.abc import Container
from itertools import permutations
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ._describe import read_outputs
from ._graph import MAX_SKELETONS, Decision, Graph, TemplateGraph
from ._packet import Packet

MAX_ORDERS_ARITY = 5  # beyond it only the order as it is; 5! orders are tried at most


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Change(_Model):
    """One value that differs."""

    what: str = Field(description="Which value, such as teacher.name.")
    a: Any = Field(description="In the first packet; null: not there.")
    b: Any = Field(description="In the second packet.")


class RowChange(_Model):
    """A row that both rules hold and that says something else."""

    arguments: list[str] = Field(description="Symbols, in the first packet's order.")
    a: str | None = Field(description="What the first packet writes; null: nobody can read it.")
    b: str | None = Field(description="What the second packet writes.")


class RuleDiff(_Model):
    """Two rules that are taken for the same one."""

    a: str = Field(description="Its name in the first packet.")
    b: str = Field(description="Its name in the second packet.")
    order: list[int] = Field(description="Argument i of the first is argument order[i] of the second.")
    family_a: int = Field(description="Its family in the first packet.")
    family_b: int = Field(description="Its family in the second packet.")
    common: int = Field(description="Rows that both hold.")
    added: list[list[str]] = Field(description="Arguments of rows that only the second holds.")
    removed: list[list[str]] = Field(description="Arguments of rows that only the first holds.")
    changed: list[RowChange] = Field(description="Common rows whose output differs.")
    cosine_mean: float | None = Field(
        description="Mean cosine of the common rows' vectors; null: other spaces."
    )
    cosine_min: float | None = Field(description="The smallest of them.")


class TemplateDiff(_Model):
    """The graphs of one template."""

    template: str = Field(description="Template text.")
    nodes: tuple[int, int] = Field(description="Nodes of the two tries.")
    common: int = Field(description="Skeletons that both hold.")
    added: int = Field(description="Skeletons that only the second holds.")
    removed: int = Field(description="Skeletons that only the first holds.")
    steps_changed: int = Field(description="Nodes of both that decide otherwise.")


class PacketDiff(_Model):
    """Everything; empty lists where nothing differs."""

    a: str = Field(description="Digest of the first packet.")
    b: str = Field(description="Digest of the second packet.")
    identical: bool = Field(description="The same manifest, and by its digests the same parts.")
    manifest: list[Change] = Field(description="Provenance, settings and costs that differ.")
    fidelity: list[Change] = Field(description="Measurements that differ.")
    symbols_added: list[str] = Field(description="Symbols that only the second knows.")
    symbols_removed: list[str] = Field(description="Symbols that only the first knows.")
    rules: list[RuleDiff] = Field(description="Rules that were matched.")
    rules_added: list[str] = Field(description="Rules of the second without a partner.")
    rules_removed: list[str] = Field(description="Rules of the first without a partner.")
    same_space: bool = Field(
        description="Vectors of one teacher and one layer, so that they can be compared."
    )
    templates: list[TemplateDiff] = Field(description="Templates of both.")
    templates_added: list[str] = Field(description="Templates that only the second has.")
    templates_removed: list[str] = Field(description="Templates that only the first has.")


def diff_packets(a: Packet, b: Packet) -> PacketDiff:
    """Compares two packets; ``b`` is the newer one where words such as "added" need a direction."""
    left, right = _Side(a), _Side(b)
    same_space = (a.manifest.teacher.digest, a.manifest.embedding.layer) == (
        b.manifest.teacher.digest,
        b.manifest.embedding.layer,
    )
    pairs = _match(left, right)
    mine, theirs = {i for i, _, _ in pairs}, {j for _, j, _ in pairs}
    measured_a, measured_b = ({s.template for s in p.manifest.fidelity.shapes} for p in (a, b))
    shapes_a = {t.template: t for t in a.graph.templates}
    shapes_b = {t.template: t for t in b.graph.templates}
    return PacketDiff(
        a=a.digest,
        b=b.digest,
        identical=a.digest == b.digest,
        manifest=_changes(_provenance(a), _provenance(b)),
        fidelity=_changes(_fidelity(a, measured_b), _fidelity(b, measured_a)),
        symbols_added=[s for s in b.graph.symbols if s not in a.graph.symbols],
        symbols_removed=[s for s in a.graph.symbols if s not in b.graph.symbols],
        rules=[_rule(left, right, i, j, order, same_space) for i, j, order in pairs],
        rules_added=[r.name for j, r in enumerate(b.graph.rules) if j not in theirs],
        rules_removed=[r.name for i, r in enumerate(a.graph.rules) if i not in mine],
        same_space=same_space,
        templates=[
            _template(shapes_a[name], shapes_b[name], a.graph, b.graph, pairs)
            for name in shapes_a
            if name in shapes_b
        ],
        templates_added=[name for name in shapes_b if name not in shapes_a],
        templates_removed=[name for name in shapes_a if name not in shapes_b],
    )


class _Side:
    """A packet with its rows by the names of their arguments."""

    def __init__(self, packet: Packet) -> None:
        self.graph = packet.graph
        self.vectors_KD = packet.concepts.vectors_KD.astype(np.float64)
        symbols, outputs = packet.graph.symbols, read_outputs(packet)
        self.says = [None if o is None else symbols[o] for o in outputs]
        self.rows: list[dict[tuple[str, ...], int]] = [
            {tuple(symbols[x] for x in row): rule.offset + i for i, row in enumerate(rule.rows)}
            for rule in packet.graph.rules
        ]


_Pair = tuple[int, int, tuple[int, ...]]


def _match(left: _Side, right: _Side) -> list[_Pair]:
    """(rule of a, rule of b, order of arguments), the most alike first; each rule once, and rows in common needed."""
    found: list[tuple[tuple[float, float, bool], _Pair]] = []
    for i, mine in enumerate(left.rows):
        arity = left.graph.rules[i].arity
        own = tuple(range(arity))
        orders = list(permutations(own)) if arity <= MAX_ORDERS_ARITY else [own]
        for j, theirs in enumerate(right.rows):
            if right.graph.rules[j].arity != arity:
                continue
            for order in orders:
                moved = {tuple(k[order[x]] for x in own): row for k, row in theirs.items()}
                common = mine.keys() & moved.keys()
                if common:
                    # two rules of a family hold the same rows: what they write tells them apart
                    same = sum(left.says[mine[k]] == right.says[moved[k]] for k in common) / len(common)
                    alike = len(common) / len(mine.keys() | moved.keys())
                    found.append(((alike, same, order == own), (i, j, order)))
    pairs: list[_Pair] = []
    for _, pair in sorted(found, key=lambda f: f[0], reverse=True):
        if all(pair[0] != i and pair[1] != j for i, j, _ in pairs):
            pairs.append(pair)
    return sorted(pairs)


def _rule(left: _Side, right: _Side, i: int, j: int, order: tuple[int, ...], same_space: bool) -> RuleDiff:
    mine = left.rows[i]
    theirs = {tuple(k[x] for x in order): row for k, row in right.rows[j].items()}
    common = [k for k in mine if k in theirs]
    cosine = np.array([])
    if same_space:
        x = left.vectors_KD[[mine[k] for k in common]]
        y = right.vectors_KD[[theirs[k] for k in common]]
        size = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        cosine = (x * y).sum(axis=1) / np.maximum(size, 1e-12)
    return RuleDiff(
        a=left.graph.rules[i].name,
        b=right.graph.rules[j].name,
        order=list(order),
        family_a=left.graph.rules[i].family,
        family_b=right.graph.rules[j].family,
        common=len(common),
        added=[list(k) for k in theirs if k not in mine],
        removed=[list(k) for k in mine if k not in theirs],
        changed=[
            RowChange(arguments=list(k), a=left.says[mine[k]], b=right.says[theirs[k]])
            for k in common
            if left.says[mine[k]] != right.says[theirs[k]]
        ],
        cosine_mean=float(cosine.mean()) if len(cosine) else None,
        cosine_min=float(cosine.min()) if len(cosine) else None,
    )


# -- the graph --------------------------------------------------------------------------------------------------------
def _template(
    a: TemplateGraph, b: TemplateGraph, graph_a: Graph, graph_b: Graph, pairs: list[_Pair]
) -> TemplateDiff:
    together = _together(a, b)
    partner = {j: (i, order) for i, j, order in pairs}
    as_is = {i: (i, tuple(range(rule.arity))) for i, rule in enumerate(graph_a.rules)}
    changed = sum(
        _plain(a.nodes[i].step, graph_a, as_is) != _plain(b.nodes[j].step, graph_b, partner)
        for i, j in together
    )
    common = together.get((0, 0), 0)
    return TemplateDiff(
        template=a.template,
        nodes=(len(a.nodes), len(b.nodes)),
        common=common,
        added=b.n_skeletons - common,
        removed=a.n_skeletons - common,
        steps_changed=changed,
    )


def _together(a: TemplateGraph, b: TemplateGraph) -> dict[tuple[int, int], int]:
    """Pairs of nodes reached by the same masks, to the number of ways from there to an end that both have."""
    if not a.nodes or not b.nodes:
        return {}
    pending, pairs = [(0, 0)], {(0, 0)}
    while pending:
        following = set(_shared(a, b, pending.pop()))
        pending += following - pairs
        pairs |= following
    ways: dict[tuple[int, int], int] = {}
    for i, j in sorted(pairs, reverse=True):  # children come after their parents
        if a.nodes[i].children or b.nodes[j].children:
            ways[i, j] = min(sum(ways[pair] for pair in _shared(a, b, (i, j))), MAX_SKELETONS)
        else:
            ways[i, j] = 1
    return ways


def _shared(a: TemplateGraph, b: TemplateGraph, pair: tuple[int, int]) -> list[tuple[int, int]]:
    mine, theirs = a.nodes[pair[0]].children, b.nodes[pair[1]].children
    return [(child, theirs[mask]) for mask, child in mine.items() if mask in theirs]


def _plain(step: Decision, graph: Graph, partner: dict[int, tuple[int, tuple[int, ...]]]) -> Any:
    """A decision with symbols by name, and rules by the first packet's numbers and order of arguments."""
    if step.do == "literal":
        return ("literal", step.text)
    if step.do == "copy":
        return ("copy", step.source, step.lead)
    if step.do == "rule":
        if step.rule not in partner:
            return ("other rule", step.rule)
        rule, order = partner[step.rule]
        return ("rule", rule, tuple(step.sources[x] for x in order), step.lead)
    # a set: which case is listed first means nothing, as their values are disjoint
    return (
        "guard",
        step.source,
        frozenset(
            (frozenset(graph.symbols[v] for v in case.values), _plain(case.then, graph, partner))
            for case in step.cases
        ),
    )


# -- the manifest -----------------------------------------------------------------------------------------------------
def _provenance(packet: Packet) -> dict[str, Any]:
    manifest = packet.manifest
    found: dict[str, Any] = {"name": manifest.name, "signer": packet.signature and packet.signature.keyid}
    for part in ("teacher", "embedding", "ledger"):
        found |= {f"{part}.{k}": v for k, v in getattr(manifest, part).model_dump(mode="json").items()}
    found["probes"] = packet.spec.digest
    for name in ("verbalised", "seed", "created", "fallback", "fallback_reason"):
        found[name] = getattr(manifest, name)
    for name in sorted(manifest.config):
        found[f"config.{name}"] = manifest.config[name]
    return found | {f"library.{name}": version for name, version in manifest.libraries.items()}


def _fidelity(packet: Packet, others: Container[str]) -> dict[str, Any]:
    """Measurements; by shape where the other packet has measured that shape as well."""
    fidelity = packet.manifest.fidelity
    found: dict[str, Any] = {
        name: getattr(fidelity, name)
        for name in ("agreement", "coverage", "probe_accuracy", "causal_edge_share")
    }
    for shape in fidelity.shapes:
        if shape.template in others:
            found[f"agreement on {shape.template}"] = shape.agreement
            found[f"coverage on {shape.template}"] = shape.coverage
    return found | dict(fidelity.other)


def _changes(a: dict[str, Any], b: dict[str, Any]) -> list[Change]:
    names = dict.fromkeys([*a, *b])
    return [Change(what=n, a=a.get(n), b=b.get(n)) for n in names if a.get(n) != b.get(n)]
