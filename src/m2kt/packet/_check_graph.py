"""Consistency of a graph: by itself, and with the probe spec whose prompts it continues."""

from __future__ import annotations

import unicodedata

from m2kt.errors import PacketError
from m2kt.probes import ProbeSpec

from ._graph import Decision, Graph, Guard, Rule, TemplateGraph, WriteCopy, WriteLiteral, WriteRule

MAX_GUARDS = 32  # nested


def check_graph(graph: Graph, where: str) -> None:
    """Ids are in range, rules are complete, concept indices have no gaps, children come after their parents."""
    _check_symbols(graph, where)
    offset = 0
    arities: dict[int, int] = {}
    for rule in graph.rules:
        _check_rule(rule, offset, len(graph.symbols), where)
        if arities.setdefault(rule.family, rule.arity) != rule.arity:
            raise PacketError(f"{where}: rules of family {rule.family} take different numbers of arguments")
        offset += len(rule.rows)
    if len({rule.name for rule in graph.rules}) != len(graph.rules):
        raise PacketError(f"{where}: two rules have one name")
    for template in graph.templates:
        for index, node in enumerate(template.nodes):
            at = f"{where}: node {index} of {template.template!r}"
            _check_decision(node.step, graph, at)
            if any(not index < child < len(template.nodes) for child in node.children.values()):
                raise PacketError(f"{at} leads to a node that does not come after it")


def check_against_spec(graph: Graph, spec: ProbeSpec, where: str) -> None:
    """The templates are those of the spec, and a step reads only units that are written before it."""
    expected = [spec.template_text(i) for i in range(spec.n_templates)]
    templates = [template.template for template in graph.templates]
    if expected != templates:
        raise PacketError(f"{where}: the spec has the templates {expected}, the graph {templates}")
    if spec.stop != graph.stop:
        raise PacketError(f"{where}: the spec stops at {spec.stop!r}, the graph at {graph.stop!r}")
    for i, template in enumerate(graph.templates):
        for index, written in enumerate(_units_before(template, len(spec.masks(i)))):
            last = max(_sources(template.nodes[index].step), default=-1)
            if last >= written:
                raise PacketError(
                    f"{where}: node {index} of {template.template!r} reads unit {last}, "
                    f"expected one of the {written} before it"
                )


def _check_symbols(graph: Graph, where: str) -> None:
    if len(set(graph.symbols)) != len(graph.symbols):
        raise PacketError(f"{where}: graph.json lists a symbol twice")
    if "" in graph.symbols or not graph.stop:
        raise PacketError(f"{where}: graph.json has an empty symbol or stop string")
    if len({_appearance(symbol) for symbol in graph.symbols}) != len(graph.symbols):
        raise PacketError(f"{where}: graph.json lists two symbols that look the same")


def _appearance(symbol: str) -> str:
    """The symbol composed (NFC), without characters that have no width."""
    composed = unicodedata.normalize("NFC", symbol)
    return "".join(c for c in composed if unicodedata.category(c) != "Cf") or symbol


def _check_rule(rule: Rule, offset: int, n_symbols: int, where: str) -> None:
    if rule.offset != offset:
        raise PacketError(f"{where}: {rule.name} begins at concept {rule.offset}, expected {offset}")
    if len(rule.outputs) != len(rule.rows):
        raise PacketError(f"{where}: {rule.name} has {len(rule.rows)} rows and {len(rule.outputs)} outputs")
    if any(len(row) != rule.arity for row in rule.rows):
        raise PacketError(f"{where}: {rule.name} takes {rule.arity} arguments, but a row has another number")
    if len(set(rule.rows)) != len(rule.rows):
        raise PacketError(f"{where}: {rule.name} has the same arguments twice")
    ids = [*(a for row in rule.rows for a in row), *rule.range, *(o for o in rule.outputs if o is not None)]
    if any(not 0 <= i < n_symbols for i in ids):
        raise PacketError(f"{where}: {rule.name} names a symbol outside 0..{n_symbols - 1}")


def _check_decision(step: Decision, graph: Graph, at: str) -> None:
    pending: list[tuple[Decision, int]] = [(step, 0)]
    while pending:
        decision, depth = pending.pop()
        if isinstance(decision, Guard):
            if depth >= MAX_GUARDS:
                raise PacketError(f"{at} has more than {MAX_GUARDS} nested guards")
            values = [v for case in decision.cases for v in case.values]
            if len(set(values)) != len(values) or any(not 0 <= v < len(graph.symbols) for v in values):
                raise PacketError(f"{at}: its guard's cases overlap or name unknown symbols")
            pending += [(case.then, depth + 1) for case in decision.cases]
        else:
            _check_leaf(decision, graph, at)


def _check_leaf(leaf: WriteLiteral | WriteCopy | WriteRule, graph: Graph, at: str) -> None:
    if leaf.lead not in ("", " "):
        raise PacketError(f"{at} has the lead {leaf.lead!r}; expected no text or one space")
    if isinstance(leaf, WriteRule):
        if leaf.rule >= len(graph.rules):
            raise PacketError(f"{at} applies rule {leaf.rule}, but there are {len(graph.rules)}")
        if len(leaf.sources) != graph.rules[leaf.rule].arity or any(s < 0 for s in leaf.sources):
            raise PacketError(f"{at} gives {graph.rules[leaf.rule].name} the wrong number of arguments")
    elif isinstance(leaf, WriteLiteral):
        if leaf.symbol is not None and not 0 <= leaf.symbol < len(graph.symbols):
            raise PacketError(f"{at} writes unknown symbol {leaf.symbol}")
        if leaf.symbol is not None and leaf.text != leaf.lead + graph.symbols[leaf.symbol]:
            raise PacketError(f"{at} writes {leaf.text!r}, but names the symbol {graph.symbols[leaf.symbol]!r}")
        if not leaf.text:
            raise PacketError(f"{at} writes nothing")


def _units_before(template: TemplateGraph, n_prompt: int) -> list[int]:
    """Number of units before each node, prompt included, on the shortest path to it. Unreachable nodes never run."""
    least = [n_prompt + index for index in range(len(template.nodes))]
    for node, written in zip(template.nodes, least, strict=True):
        for child in node.children.values():
            least[child] = min(least[child], written + 1)
    return least


def _sources(step: Decision) -> list[int]:
    if isinstance(step, Guard):
        return [step.source, *(unit for case in step.cases for unit in _sources(case.then))]
    if isinstance(step, WriteLiteral):
        return []
    return step.sources if isinstance(step, WriteRule) else [step.source]
