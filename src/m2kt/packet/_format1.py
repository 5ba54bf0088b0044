"""Format 1, whose graph had one trie for each template: read, checked, and converted to a program (:mod:`_convert`).

For every template the graph is a trie over masked traces, with absolute indices of units for pointers. Nothing else in
M2KT knows these classes, and they share none with the present format: what may change there must not change here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from m2kt.errors import PacketError, explain
from m2kt.probes import ProbeSpec

from ._check_program import check_literal, check_symbols_and_rules
from ._json import check_canonical, parse_json
from ._trace import Rule

MAX_GUARDS = 32  # nested


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WriteLiteral(_Model):
    """Write ``text``. ``symbol`` is set where the text is a symbol that never varies at this node."""

    do: Literal["literal"] = "literal"
    text: str = Field(description="The unit's text.")
    symbol: int | None = Field(
        default=None, description="Symbol id, where the text is the leading space and that symbol."
    )
    lead: str = Field(default="", description="Leading space before the symbol.")


class WriteCopy(_Model):
    """Repeat the symbol of an earlier unit."""

    do: Literal["copy"] = "copy"
    source: int = Field(ge=0, description="Index of the copied unit, prompt first.")
    lead: str = Field(default="", description="Leading space before the symbol.")


class WriteRule(_Model):
    """Write the output of a rule for the symbols of earlier units."""

    do: Literal["rule"] = "rule"
    rule: int = Field(ge=0, description="Index of the rule.")
    sources: list[int] = Field(description="Indices of the argument units, in the rule's order.")
    lead: str = Field(default="", description="Leading space before the symbol.")


class Case(_Model):
    """One branch of a guard."""

    values: list[int] = Field(description="Symbol ids that select this branch.")
    then: Decision = Field(description="The decision of this branch.")


class Guard(_Model):
    """Select a branch by one earlier symbol: another copy, another rule, or another literal."""

    do: Literal["guard"] = "guard"
    source: int = Field(ge=0, description="Index of the unit whose symbol selects.")
    cases: list[Case] = Field(description="Branches; their values are disjoint.")


Decision = Annotated[WriteLiteral | WriteCopy | WriteRule | Guard, Field(discriminator="do")]
Case.model_rebuild()
Guard.model_rebuild()


class Node(_Model):
    """All traces of a template that share one masked prefix."""

    step: Decision = Field(description="Decision about the next unit.")
    children: dict[str, int] = Field(
        default_factory=dict, description="Mask of the unit written, to the index of the next node."
    )


class TemplateGraph(_Model):
    """The trie of one template; node 0 is the end of the prompt."""

    template: str = Field(description="Template text.")
    nodes: list[Node] = Field(description="Nodes; children come after their parents.")


class Graph(_Model):
    """Symbols, rules, and one trie for each template."""

    symbols: list[str] = Field(description="All symbols; ids are indices.")
    rules: list[Rule] = Field(description="Rules, in concept order.")
    templates: list[TemplateGraph] = Field(description="In the order of the probe spec.")
    stop: str = Field(description="The stop string: the last unit of every complete trace.")

    @property
    def n_concepts(self) -> int:
        """K, rows of all rules."""
        return sum(len(r.rows) for r in self.rules)

    def row_index(self) -> list[dict[tuple[int, ...], int]]:
        """Per rule, arguments to row."""
        return [{row: i for i, row in enumerate(rule.rows)} for rule in self.rules]


def parse_graph(raw: bytes, where: str) -> Graph:
    """Graph from its bytes; its consistency is checked by :func:`check_graph`."""
    what = f"{where}: graph.json"
    data = parse_json(raw, what)
    try:
        graph = Graph.model_validate(data)
    except ValidationError as error:
        raise PacketError(f"{what} is not valid: {explain(error)}") from error
    check_canonical(raw, lambda: graph.model_dump(mode="json"), what)
    return graph


def leaves(decision: Decision) -> Iterator[WriteLiteral | WriteCopy | WriteRule]:
    """The leaves of a decision tree."""
    if isinstance(decision, Guard):
        for case in decision.cases:
            yield from leaves(case.then)
    else:
        yield decision


def check_graph(graph: Graph, where: str) -> None:
    """Ids are in range, rules are complete, concept indices have no gaps, children come after their parents."""
    check_symbols_and_rules(graph.symbols, graph.rules, graph.stop, f"{where}: graph.json", where)
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
    if spec.stop is None or spec.stop != graph.stop:
        raise PacketError(f"{where}: the spec stops at {spec.stop!r}, the graph at {graph.stop!r}")
    for i, template in enumerate(graph.templates):
        for index, written in enumerate(_units_before(template, len(spec.masks(i)))):
            last = max(_sources(template.nodes[index].step), default=-1)
            if last >= written:
                raise PacketError(
                    f"{where}: node {index} of {template.template!r} reads unit {last}, "
                    f"expected one of the {written} before it"
                )


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
        check_literal(leaf.text, leaf.symbol, leaf.lead, graph.symbols, at)


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
