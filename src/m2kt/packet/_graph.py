"""The abstraction graph A: how the teacher's traces are written, step by step, and by which rules.

For every template the graph is a trie over *skeletons* (traces with their symbols masked). Each node decides the next
unit of the trace by a small tree whose leaves write a literal, copy an earlier symbol, or apply a rule to earlier
symbols. What a rule writes is not part of the graph unless it was verbalised: outputs travel as concept vectors, and
whoever rolls the graph out supplies a :class:`OutputLookup` that names them.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from m2kt.errors import PacketError, explain
from m2kt.probes import MASK, Prompt

from ._json import check_canonical, parse_json

MOST_WAYS = 2**53 - 1  # nodes that share children could otherwise spell numbers of a gigabyte
_REMEMBERED = 1 << 16  # steps of roll-outs


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WriteLiteral(_Model):
    """Write ``text``. ``symbol`` is set where the text is a symbol that never varies here."""

    do: Literal["literal"] = "literal"
    text: str = Field(description="The unit's text.")
    symbol: int | None = Field(default=None, description="Symbol id, where the text is lead + symbol.")
    lead: str = Field(default="", description="Space before the symbol.")


class WriteCopy(_Model):
    """Repeat the symbol of an earlier unit."""

    do: Literal["copy"] = "copy"
    source: int = Field(ge=0, description="Index of the copied unit, prompt first.")
    lead: str = Field(default="", description="Space before the symbol.")


class WriteRule(_Model):
    """Write what a rule says about the symbols of earlier units."""

    do: Literal["rule"] = "rule"
    rule: int = Field(ge=0, description="Index of the rule.")
    sources: list[int] = Field(description="Indices of the argument units, in the rule's order.")
    lead: str = Field(default="", description="Space before the symbol.")


class Case(_Model):
    """One branch of a guard."""

    values: list[int] = Field(description="Symbol ids for which this branch is taken.")
    then: Decision = Field(description="What to do then.")


class Guard(_Model):
    """Look at one earlier symbol and decide how to go on: which copy, which rule, or which piece of structure."""

    do: Literal["guard"] = "guard"
    source: int = Field(ge=0, description="Index of the unit that decides.")
    cases: list[Case] = Field(description="Branches; their values are disjoint.")


Decision = Annotated[WriteLiteral | WriteCopy | WriteRule | Guard, Field(discriminator="do")]
Case.model_rebuild()
Guard.model_rebuild()


class Node(_Model):
    """All traces of a template that share one masked prefix."""

    step: Decision = Field(description="How the next unit is decided.")
    children: dict[str, int] = Field(
        default_factory=dict, description="Mask of the unit written, to the next node."
    )


class TemplateGraph(_Model):
    """The trie of one template; node 0 is the end of the prompt."""

    template: str = Field(description="Template text.")
    nodes: list[Node] = Field(description="Nodes; children point forward.")

    @property
    def n_skeletons(self) -> int:
        """Ways from the root to an end; in a trie, the number of ends. Counted up to ``MOST_WAYS``."""
        ways = [0] * len(self.nodes)
        for i in reversed(range(len(self.nodes))):
            children = self.nodes[i].children
            ways[i] = min(sum(ways[child] for child in children.values()), MOST_WAYS) if children else 1
        return ways[0] if ways else 0


class Rule(_Model):
    """A table that the teacher was shown to hold. Each row is a concept."""

    name: str = Field(description="Name of the rule within this packet.")
    arity: int = Field(ge=1, description="Number of arguments.")
    rows: list[tuple[int, ...]] = Field(description="Argument symbol ids, one tuple a concept.")
    outputs: list[int | None] = Field(
        description="Verbalised output symbol a row; null: travels as vector only."
    )
    range: list[int] = Field(description="Symbol ids that this rule was seen to write, over all rows.")
    family: int = Field(ge=0, description="Rules of one family always read the same arguments.")
    offset: int = Field(ge=0, description="Index of the first row among the K concepts.")
    uses: int = Field(default=0, ge=0, description="Places (nodes of the graph) where the rule is applied.")

    @property
    def concepts(self) -> builtins.range:
        """Indices of its rows among the K concepts."""
        return builtins.range(self.offset, self.offset + len(self.rows))


class Graph(_Model):
    """Symbols, rules, and one trie a template."""

    symbols: list[str] = Field(description="All symbols; ids are indices.")
    rules: list[Rule] = Field(description="Rules, in concept order.")
    templates: list[TemplateGraph] = Field(description="In the order of the probe spec.")
    stop: str = Field(description="The stop string: the last unit of every complete trace.")

    @property
    def n_concepts(self) -> int:
        """K, rule instances (symbols not counted)."""
        return sum(len(r.rows) for r in self.rules)

    def first_places(self) -> list[list[int]]:
        """Numbers all leaves of all decisions: by template and node, the number of the node's first leaf."""
        count = 0
        found: list[list[int]] = []
        for template in self.templates:
            found.append([])
            for node in template.nodes:
                found[-1].append(count)
                count += n_leaves(node.step)
        return found

    @property
    def n_places(self) -> int:
        """Leaves of all decisions: the places at which a trace can be."""
        return sum(n_leaves(node.step) for template in self.templates for node in template.nodes)

    def concept(self, unit: TracedUnit) -> int:
        """Index of the concept that wrote a unit of kind 'rule'."""
        assert unit.rule is not None and unit.row is not None
        return self.rules[unit.rule].offset + unit.row

    def row_index(self) -> list[dict[tuple[int, ...], int]]:
        """Per rule, arguments to row."""
        return [{row: i for i, row in enumerate(rule.rows)} for rule in self.rules]


class OutputLookup(Protocol):
    """Says what rule ``rule`` writes in its row ``row``: a symbol id."""

    def __call__(self, rule: int, row: int) -> int: ...


@dataclass(slots=True)
class TracedUnit:
    """A unit of a rolled-out trace, with where it came from."""

    text: str
    symbol: int | None
    lead: str = ""
    kind: Literal["prompt", "literal", "copy", "rule"] = "literal"
    rule: int | None = None
    row: int | None = None
    sources: tuple[int, ...] = ()


Lost = Literal["row", "branch", "node", "symbol", "length"]


@dataclass(slots=True)
class RolloutFailure:
    """Why a roll-out could not go on, at ``node`` of ``template``."""

    what: Lost
    template: int
    node: int
    detail: str = ""


@dataclass(slots=True)
class Trace:
    """A prompt with the completion that the graph writes for it."""

    units: list[TracedUnit]
    n_prompt: int
    template: int = 0
    complete: bool = False
    missing: RolloutFailure | None = None
    path: list[int] = field(default_factory=list)  # node of every completion unit
    leaf: list[int] = field(default_factory=list)  # leaf of the node's decision that wrote it

    @property
    def text(self) -> str:
        """Prompt and completion."""
        return "".join(u.text for u in self.units)

    @property
    def completion(self) -> str:
        """Completion with its stop string, if complete."""
        return "".join(u.text for u in self.units[self.n_prompt :])


@dataclass(slots=True, frozen=True)
class _Choice:
    """A guard with its branches by the symbol seen: leaves to skip, and what is decided there."""

    source: int
    branches: dict[int, tuple[int, _Step]]


_Step = WriteLiteral | WriteCopy | WriteRule | _Choice


def _compiled(decision: Decision) -> _Step:
    if not isinstance(decision, Guard):
        return decision
    branches: dict[int, tuple[int, _Step]] = {}
    leaf = 0
    for case in decision.cases:
        branch = leaf, _compiled(case.then)
        for value in case.values:
            branches.setdefault(value, branch)
        leaf += n_leaves(case.then)
    return _Choice(decision.source, branches)


class _Way(NamedTuple):
    """What is written at a leaf in one case, and the node that follows; none where the trace or the graph ends."""

    unit: TracedUnit
    node: int | None
    ends: bool = False


class GraphExecutor:
    """Rolls a graph out over prompts; keeps what every roll-out needs.

    Units of traces are shared between them: they are to be read, not changed.
    """

    def __init__(self, graph: Graph, max_units: int = 4096) -> None:
        self.graph = graph
        self.symbol_id = {s: i for i, s in enumerate(graph.symbols)}
        self.rows = graph.row_index()
        self.max_units = max_units
        self._steps = [[_compiled(node.step) for node in t.nodes] for t in graph.templates]
        self._leaves = [[list(leaves(node.step)) for node in t.nodes] for t in graph.templates]
        self._way = lru_cache(_REMEMBERED)(self._way_from)  # the same few are taken again and again

    def prompt_units(self, prompt: Prompt) -> list[TracedUnit]:
        """The prompt's units with their symbol ids. A slot value that the graph has not seen gets no id."""
        return [
            TracedUnit(u.text, None if u.symbol is None else self.symbol_id.get(u.symbol), u.lead, "prompt")
            for u in prompt.units
        ]

    def __call__(self, prompt: Prompt, table: OutputLookup) -> Trace:
        """Rolls out. Never raises on what the graph lacks: ``complete`` is False then and ``missing`` says why."""
        template = prompt.template
        steps, rows, way_of, longest = self._steps[template], self.rows, self._way, self.max_units
        units = self.prompt_units(prompt)
        trace = Trace(units, len(units), template)
        path, leaf_of = trace.path, trace.leaf
        node = 0

        def lost(what: Lost, detail: str) -> Trace:
            trace.missing = RolloutFailure(what, template, node, detail)
            return trace

        if not steps:
            return lost("node", "no trace of this template could be explained")
        while True:
            path.append(node)
            if len(units) > longest:
                return lost("length", f"{longest} units")
            step, leaf, row, symbol = steps[node], 0, None, None
            while type(step) is _Choice:
                seen = units[step.source].symbol
                branch = None if seen is None else step.branches.get(seen)
                if branch is None:
                    return lost("branch", f"unit {step.source} is {seen}")
                leaf, step = leaf + branch[0], branch[1]
            leaf_of.append(leaf)
            if type(step) is WriteCopy:
                symbol = units[step.source].symbol
                if symbol is None:
                    return lost("symbol", f"unit {step.source} holds no known symbol")
            elif type(step) is WriteRule:
                # A symbol that the graph does not know is None, and in no row.
                arguments: tuple[Any, ...] = tuple([units[s].symbol for s in step.sources])
                row = rows[step.rule].get(arguments)
                if row is None:
                    return lost("row", f"{self.graph.rules[step.rule].name} has no row for {arguments}")
                symbol = table(step.rule, row)
            unit, following, ends = way_of(template, node, leaf, row, symbol)
            units.append(unit)
            if ends:
                trace.complete = True
                return trace
            if following is None:
                return lost("node", f"no way on after {_mask(unit)!r}")
            node = following

    def _way_from(self, template: int, node: int, leaf: int, row: int | None, symbol: int | None) -> _Way:
        step = self._leaves[template][node][leaf]
        if isinstance(step, WriteLiteral):
            unit = TracedUnit(step.text, step.symbol, step.lead, "literal")
        else:
            assert symbol is not None
            text = step.lead + self.graph.symbols[symbol]
            if isinstance(step, WriteCopy):
                unit = TracedUnit(text, symbol, step.lead, "copy", sources=(step.source,))
            else:
                unit = TracedUnit(text, symbol, step.lead, "rule", step.rule, row, tuple(step.sources))
        if unit.symbol is None and unit.text == self.graph.stop:
            return _Way(unit, None, ends=True)
        return _Way(unit, self.graph.templates[template].nodes[node].children.get(_mask(unit)))


def _mask(unit: TracedUnit) -> str:
    return unit.text if unit.symbol is None else unit.lead + MASK


def parse_graph(raw: bytes, where: str) -> Graph:
    """Graph from its bytes; whether it fits together is for :func:`check_graph` to say."""
    what = f"{where}: graph.json"
    data = parse_json(raw, what)
    try:
        graph = Graph.model_validate(data)
    except ValidationError as error:
        raise PacketError(f"{what} is not valid: {explain(error)}") from error
    check_canonical(raw, lambda: graph.model_dump(mode="json"), what)
    return graph


def roll_out(graph: Graph, prompt: Prompt, table: OutputLookup) -> Trace:
    """One roll-out; use :class:`GraphExecutor` for many."""
    return GraphExecutor(graph)(prompt, table)


def leaves(decision: Decision) -> Iterator[WriteLiteral | WriteCopy | WriteRule]:
    """The leaves of a decision tree."""
    if isinstance(decision, Guard):
        for case in decision.cases:
            yield from leaves(case.then)
    else:
        yield decision


def n_leaves(decision: Decision) -> int:
    """Number of leaves of a decision."""
    return sum(n_leaves(c.then) for c in decision.cases) if isinstance(decision, Guard) else 1


def verbalised_lookup(graph: Graph) -> OutputLookup:
    """The table of a packet whose outputs all travel as text. Raises KeyError for a row that does not."""

    def table(rule: int, row: int) -> int:
        output = graph.rules[rule].outputs[row]
        if output is None:
            raise KeyError(f"row {row} of {graph.rules[rule].name} travels as a vector only")
        return output

    return table


def fixed_lookup(outputs: Sequence[int], graph: Graph) -> OutputLookup:
    """The table that writes ``outputs[k]`` for concept k."""
    offsets = [r.offset for r in graph.rules]

    def table(rule: int, row: int) -> int:
        return int(outputs[offsets[rule] + row])

    return table
