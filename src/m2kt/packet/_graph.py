"""The abstraction graph A: how the teacher's traces are written, unit by unit, and by which rules.

For every template the graph is a trie over *skeletons* (traces with their symbols masked). Each node has a decision, a
small tree whose leaves write a literal, copy an earlier symbol, or apply a rule to earlier symbols. Outputs of rules
are part of the graph only where they are verbalised; the others travel as concept vectors, and a rollout needs an
:class:`OutputLookup` for them. ``lead``, a name on disk, is the leading space of a unit: empty or one space.
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

MAX_SKELETONS = 2**53 - 1  # nodes that share children could otherwise count to numbers of a gigabyte
_CACHED_STEPS = 1 << 16


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

    @property
    def n_skeletons(self) -> int:
        """Paths from the root to an end, counted up to ``MAX_SKELETONS``."""
        paths = [0] * len(self.nodes)
        for i in reversed(range(len(self.nodes))):
            children = self.nodes[i].children
            paths[i] = min(sum(paths[child] for child in children.values()), MAX_SKELETONS) if children else 1
        return paths[0] if paths else 0


class Rule(_Model):
    """A table that the extraction found in the teacher. Each row is a concept."""

    name: str = Field(description="Name of the rule within this packet.")
    arity: int = Field(ge=1, description="Number of arguments.")
    rows: list[tuple[int, ...]] = Field(description="Argument symbol ids, one tuple for each concept.")
    outputs: list[int | None] = Field(
        description="Verbalised output symbol of each row; null: travels as a vector only."
    )
    range: list[int] = Field(description="Symbol ids that this rule writes, over all rows.")
    family: int = Field(ge=0, description="Rules of one family always read the same arguments.")
    offset: int = Field(ge=0, description="Index of the first row among the K concepts.")
    uses: int = Field(default=0, ge=0, description="Nodes of the graph where the rule is applied.")

    @property
    def concepts(self) -> builtins.range:
        """Indices of its rows among the K concepts."""
        return builtins.range(self.offset, self.offset + len(self.rows))


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

    def first_leaves(self) -> list[list[int]]:
        """By template and node, the index of the node's first leaf among the leaves of all decisions."""
        count = 0
        first: list[list[int]] = []
        for template in self.templates:
            first.append([])
            for node in template.nodes:
                first[-1].append(count)
                count += n_leaves(node.step)
        return first

    @property
    def n_leaves(self) -> int:
        """M, leaves of all decisions."""
        return sum(n_leaves(node.step) for template in self.templates for node in template.nodes)

    def concept(self, unit: TracedUnit) -> int:
        """Index of the concept that wrote a unit of kind 'rule'."""
        assert unit.rule is not None and unit.row is not None
        return self.rules[unit.rule].offset + unit.row

    def row_index(self) -> list[dict[tuple[int, ...], int]]:
        """Per rule, arguments to row."""
        return [{row: i for i, row in enumerate(rule.rows)} for rule in self.rules]


class OutputLookup(Protocol):
    """The symbol id that rule ``rule`` writes at its row ``row``."""

    def __call__(self, rule: int, row: int) -> int: ...


@dataclass(slots=True)
class TracedUnit:
    """A unit of a trace, with the step that wrote it."""

    text: str
    symbol: int | None
    lead: str = ""
    kind: Literal["prompt", "literal", "copy", "rule"] = "literal"
    rule: int | None = None
    row: int | None = None
    sources: tuple[int, ...] = ()


FailureKind = Literal["row", "branch", "node", "symbol", "length"]


@dataclass(slots=True)
class RolloutFailure:
    """Why a rollout ended before the stop string, at ``node`` of ``template``: what the graph lacks."""

    what: FailureKind
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
    failure: RolloutFailure | None = None
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
class _Switch:
    """A compiled guard: by symbol, the number of leaves before the branch, and the branch."""

    source: int
    branches: dict[int, tuple[int, _Step]]


_Step = WriteLiteral | WriteCopy | WriteRule | _Switch


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
    return _Switch(decision.source, branches)


class _Written(NamedTuple):
    """The unit that a leaf writes, and the next node; None where the trace or the graph ends."""

    unit: TracedUnit
    node: int | None
    ends: bool = False


class GraphExecutor:
    """Rolls a graph out over prompts. Traces share their units, which must not be modified."""

    def __init__(self, graph: Graph, max_units: int = 4096) -> None:
        self.graph = graph
        self.symbol_id = {s: i for i, s in enumerate(graph.symbols)}
        self.rows = graph.row_index()
        self.max_units = max_units
        self._steps = [[_compiled(node.step) for node in t.nodes] for t in graph.templates]
        self._leaves = [[list(leaves(node.step)) for node in t.nodes] for t in graph.templates]
        self._write = lru_cache(_CACHED_STEPS)(self._write_leaf)  # most rollouts take the same few steps

    def prompt_units(self, prompt: Prompt) -> list[TracedUnit]:
        """The prompt's units with their symbol ids; None for a slot value that is no symbol of the graph."""
        return [
            TracedUnit(u.text, None if u.symbol is None else self.symbol_id.get(u.symbol), u.lead, "prompt")
            for u in prompt.units
        ]

    def __call__(self, prompt: Prompt, lookup: OutputLookup) -> Trace:
        """Roll out. Does not raise: where the graph lacks something, ``trace.failure`` says what."""
        template = prompt.template
        steps, rows, write, max_units = self._steps[template], self.rows, self._write, self.max_units
        units = self.prompt_units(prompt)
        trace = Trace(units, len(units), template)
        path, leaf_of = trace.path, trace.leaf
        node = 0

        def failed(what: FailureKind, detail: str) -> Trace:
            trace.failure = RolloutFailure(what, template, node, detail)
            return trace

        if not steps:
            return failed("node", "no trace of this template was explained")
        while True:
            path.append(node)
            if len(units) > max_units:
                return failed("length", f"{max_units} units")
            step, leaf, row = steps[node], 0, None
            while type(step) is _Switch:
                symbol = units[step.source].symbol
                branch = None if symbol is None else step.branches.get(symbol)
                if branch is None:
                    return failed("branch", f"unit {step.source} is {symbol}")
                leaf, step = leaf + branch[0], branch[1]
            leaf_of.append(leaf)
            symbol = None
            if type(step) is WriteCopy:
                symbol = units[step.source].symbol
                if symbol is None:
                    return failed("symbol", f"unit {step.source} holds no known symbol")
            elif type(step) is WriteRule:
                # an unknown symbol is None, and in no row
                arguments: tuple[Any, ...] = tuple([units[s].symbol for s in step.sources])
                row = rows[step.rule].get(arguments)
                if row is None:
                    return failed("row", f"{self.graph.rules[step.rule].name} has no row for {arguments}")
                symbol = lookup(step.rule, row)
            unit, following, ends = write(template, node, leaf, row, symbol)
            units.append(unit)
            if ends:
                trace.complete = True
                return trace
            if following is None:
                return failed("node", f"no child for {_mask(unit)!r}")
            node = following

    def _write_leaf(self, template: int, node: int, leaf: int, row: int | None, symbol: int | None) -> _Written:
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
            return _Written(unit, None, ends=True)
        return _Written(unit, self.graph.templates[template].nodes[node].children.get(_mask(unit)))


def _mask(unit: TracedUnit) -> str:
    return unit.text if unit.symbol is None else unit.lead + MASK


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


def roll_out(graph: Graph, prompt: Prompt, lookup: OutputLookup) -> Trace:
    """One rollout; use :class:`GraphExecutor` for many."""
    return GraphExecutor(graph)(prompt, lookup)


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
    """The verbalised outputs. Raises KeyError for a row that is not verbalised."""

    def lookup(rule: int, row: int) -> int:
        output = graph.rules[rule].outputs[row]
        if output is None:
            raise KeyError(f"row {row} of {graph.rules[rule].name} travels as a vector only")
        return output

    return lookup


def fixed_lookup(outputs: Sequence[int], graph: Graph) -> OutputLookup:
    """``outputs[k]`` for concept k."""
    offsets = [r.offset for r in graph.rules]

    def lookup(rule: int, row: int) -> int:
        return int(outputs[offsets[rule] + row])

    return lookup
