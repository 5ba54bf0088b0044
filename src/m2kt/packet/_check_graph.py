"""What must hold of a graph: by itself, and beside the probe spec whose prompts it continues."""

from __future__ import annotations

import unicodedata

from m2kt.errors import PacketError
from m2kt.probes import ProbeSpec

from ._graph import Decision, Graph, Guard, Rule, TemplateGraph, WriteCopy, WriteLiteral, WriteRule

MAX_GUARDS = 32  # one within the other


def check_graph(graph: Graph, where: str) -> None:
    """The graph by itself: ids in range, tables whole, concept indices without gaps, paths that only go forward."""
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
    """The graph continues exactly the spec's prompts, and looks at nothing that is not written yet."""
    expected = [spec.template_text(i) for i in range(spec.n_templates)]
    came = [template.template for template in graph.templates]
    if expected != came:
        raise PacketError(f"{where}: the spec has the templates {expected}, the graph {came}")
    if spec.stop != graph.stop:
        raise PacketError(f"{where}: the spec stops at {spec.stop!r}, the graph at {graph.stop!r}")
    for i, template in enumerate(graph.templates):
        for index, written in enumerate(_written_before(template, len(spec.masks(i)))):
            furthest = max(_looks_at(template.nodes[index].step), default=-1)
            if furthest >= written:
                raise PacketError(
                    f"{where}: node {index} of {template.template!r} looks at unit {furthest}, "
                    f"expected one of the {written} before it"
                )


def _check_symbols(graph: Graph, where: str) -> None:
    if len(set(graph.symbols)) != len(graph.symbols):
        raise PacketError(f"{where}: graph.json lists a symbol twice")
    if "" in graph.symbols or not graph.stop:
        raise PacketError(f"{where}: graph.json has an empty symbol or stop string")
    if len({_seen(symbol) for symbol in graph.symbols}) != len(graph.symbols):
        raise PacketError(f"{where}: graph.json lists two symbols that look the same")


def _seen(symbol: str) -> str:
    """A symbol as it looks: composed, without characters that have no width."""
    shown = unicodedata.normalize("NFC", symbol)
    return "".join(c for c in shown if unicodedata.category(c) != "Cf") or symbol


def _check_rule(rule: Rule, offset: int, n_symbols: int, where: str) -> None:
    if rule.offset != offset:
        raise PacketError(f"{where}: {rule.name} begins at concept {rule.offset}, expected {offset}")
    if len(rule.outputs) != len(rule.rows):
        raise PacketError(f"{where}: {rule.name} has {len(rule.rows)} rows and {len(rule.outputs)} outputs")
    if any(len(row) != rule.arity for row in rule.rows):
        raise PacketError(f"{where}: {rule.name} takes {rule.arity} arguments, some row has another number")
    if len(set(rule.rows)) != len(rule.rows):
        raise PacketError(f"{where}: {rule.name} holds the same arguments twice")
    ids = [*(a for row in rule.rows for a in row), *rule.range, *(o for o in rule.outputs if o is not None)]
    if any(not 0 <= i < n_symbols for i in ids):
        raise PacketError(f"{where}: {rule.name} names a symbol outside 0..{n_symbols - 1}")


def _check_decision(step: Decision, graph: Graph, at: str) -> None:
    pending: list[tuple[Decision, int]] = [(step, 0)]
    while pending:
        decision, depth = pending.pop()
        if isinstance(decision, Guard):
            if depth >= MAX_GUARDS:
                raise PacketError(f"{at} has more than {MAX_GUARDS} guards one within the other")
            values = [v for case in decision.cases for v in case.values]
            if len(set(values)) != len(values) or any(not 0 <= v < len(graph.symbols) for v in values):
                raise PacketError(f"{at}: its guard's cases overlap or name unknown symbols")
            pending += [(case.then, depth + 1) for case in decision.cases]
        else:
            _check_leaf(decision, graph, at)


def _check_leaf(leaf: WriteLiteral | WriteCopy | WriteRule, graph: Graph, at: str) -> None:
    if leaf.lead not in ("", " "):
        raise PacketError(f"{at} has the lead {leaf.lead!r}; expected nothing or one space")
    if isinstance(leaf, WriteRule):
        if leaf.rule >= len(graph.rules):
            raise PacketError(f"{at} applies rule {leaf.rule}, there are {len(graph.rules)}")
        if len(leaf.sources) != graph.rules[leaf.rule].arity or any(s < 0 for s in leaf.sources):
            raise PacketError(f"{at} gives {graph.rules[leaf.rule].name} the wrong number of arguments")
    elif isinstance(leaf, WriteLiteral):
        if leaf.symbol is not None and not 0 <= leaf.symbol < len(graph.symbols):
            raise PacketError(f"{at} writes unknown symbol {leaf.symbol}")
        if leaf.symbol is not None and leaf.text != leaf.lead + graph.symbols[leaf.symbol]:
            raise PacketError(f"{at} writes {leaf.text!r} and says that it is {graph.symbols[leaf.symbol]!r}")
        if not leaf.text:
            raise PacketError(f"{at} writes nothing")


def _written_before(template: TemplateGraph, n_prompt: int) -> list[int]:
    """Units before each node, prompt included, on the shortest way to it; a node that none leads to never runs."""
    least = [n_prompt + index for index in range(len(template.nodes))]
    for node, written in zip(template.nodes, least, strict=True):
        for child in node.children.values():
            least[child] = min(least[child], written + 1)
    return least


def _looks_at(step: Decision) -> list[int]:
    if isinstance(step, Guard):
        return [step.source, *(unit for case in step.cases for unit in _looks_at(case.then))]
    if isinstance(step, WriteLiteral):
        return []
    return step.sources if isinstance(step, WriteRule) else [step.source]
