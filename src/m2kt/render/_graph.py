"""Traces as pictures: for each template the most frequent one, and the sources of its steps.

The summary is plain data, which a bench saves and draws without the packet.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import sqrt
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from m2kt.packet import (
    Decision,
    Packet,
    Pointer,
    ProgramExecutor,
    Test,
    Trace,
    asked_pointers,
    compile_pointer,
    fixed_lookup,
    leaves,
    read_outputs,
)
from m2kt.probes import MASK
from m2kt.render._page import render_template
from m2kt.render._theme import series

PROMPTS = 200  # rolled out to find the most frequent path

Kind = Literal["prompt", "literal", "copy", "rule"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class UnitSummary(_Model):
    """One unit of the drawn trace."""

    text: str = Field(description="Its text in the example.")
    kind: Kind = Field(description="What writes it.")
    rule: int | None = Field(default=None, description="The rule that writes it.")
    guards: list[int] = Field(default_factory=list, description="Units that the tests of its branch read.")


class EdgeSummary(_Model):
    """A step reads an earlier unit."""

    model_config = ConfigDict(extra="ignore")  # committed results of the bench hold a column that is gone

    step: int = Field(description="Unit that is written.")
    source: int = Field(description="Unit that the program points to.")
    argument: int = Field(default=0, description="Number of the rule's argument.")
    rule: int | None = Field(default=None, description="None: a copy.")
    causal: bool | None = Field(default=None, description="Whether its ablation changes the step; None: not tested.")
    attention: float | None = Field(default=None, description="Maximum attention over the teacher's heads.")


class TemplateSummary(_Model):
    """One template: how various its traces are, and the most frequent one."""

    template: str
    nodes: int = Field(description="States that its traces pass through.")
    skeletons: int = Field(description="Different traces, symbols masked.")
    share: float | None = Field(default=None, description="Share of fresh prompts that take the drawn path.")
    units: list[UnitSummary] = Field(default_factory=list)
    edges: list[EdgeSummary] = Field(default_factory=list)


class GraphSummary(_Model):
    """``Measured.graph`` of a bench result, as JSON."""

    rules: list[str]
    templates: list[TemplateSummary]


def summarise_graph(packet: Packet, prompts: int = PROMPTS) -> GraphSummary:
    """Rolls out fresh prompts of each template and summarises an example of the most frequent trace."""
    names = [rule.name for rule in packet.program.rules]
    templates = [_summarise(packet, i, prompts) for i in range(packet.spec.n_templates)]
    return GraphSummary(rules=names, templates=templates)


def _summarise(packet: Packet, index: int, prompts: int) -> TemplateSummary:
    summary = TemplateSummary(template=packet.spec.template_text(index), nodes=0, skeletons=0)
    outputs = [output for output in read_outputs(packet) if output is not None]
    if len(outputs) < packet.n_concepts:
        return summary  # rows whose output is unknown cannot be rolled out
    executor, outputs_of = ProgramExecutor(packet.program), fixed_lookup(outputs, packet.program)
    sampled = packet.spec.sample("rehearsal", prompts, seed=0, templates=[index])
    traces = [trace for prompt in sampled if (trace := executor(prompt, outputs_of)).complete]
    if not traces:
        return summary
    skeletons = [_skeleton(trace) for trace in traces]
    most, count = Counter(skeletons).most_common(1)[0]
    example = traces[skeletons.index(most)]
    summary.share = count / len(sampled)
    summary.nodes = len({state for trace in traces for state in trace.path})
    summary.skeletons = len(set(skeletons))
    steps = [None] * example.n_prompt + list(zip(example.path, example.leaf, strict=True))
    attention = _attention_by_edge(packet)
    tested = [set[int]()] * example.n_prompt + _tested_units(executor, example)
    for i, (unit, step) in enumerate(zip(example.units, steps, strict=True)):
        kind: Kind = "literal" if unit.kind == "prompt" and unit.symbol is None else unit.kind
        summary.units.append(UnitSummary(text=_label(unit.text), kind=kind, rule=unit.rule, guards=sorted(tested[i])))
        for argument, source in enumerate(unit.sources):
            assert step is not None
            edge = EdgeSummary(step=i, source=source, argument=argument, rule=unit.rule)
            summary.edges.append(edge.model_copy(update=attention.get((*step, argument), {})))
    return summary


def _skeleton(trace: Trace) -> tuple[str, ...]:
    """The completion with its symbols masked."""
    units = trace.units[trace.n_prompt :]
    return tuple(u.text if u.symbol is None else u.lead + MASK for u in units)


def _tested_units(executor: ProgramExecutor, trace: Trace) -> list[set[int]]:
    """By unit of the completion, the earlier units that the tests on the way to its leaf looked at."""
    run = executor.begin(trace.units[: trace.n_prompt])
    tested: list[set[int]] = []
    for unit, state, leaf in zip(trace.units[trace.n_prompt :], trace.path, trace.leaf, strict=True):
        pointers = [p for test in _tests_before(executor.program.states[state].decision, leaf) for p in _asked(test)]
        places = {compile_pointer(pointer)(run.tape) for pointer in pointers}
        tested.append({place for place in places if place is not None and place < len(run.tape.names)})
        executor.wrote(run, unit, executor.next(run))
    return tested


def _asked(test: Test) -> list[Pointer]:
    return list(asked_pointers(test.ask))


def _tests_before(decision: Decision, leaf: int) -> list[Test]:
    """The tests that lead to a leaf, by its number."""
    tests: list[Test] = []
    while isinstance(decision, Test):
        tests.append(decision)
        branches = [case.then for case in decision.cases]
        branches += [] if decision.otherwise is None else [decision.otherwise]
        for branch in branches:
            n = sum(1 for _ in leaves(branch))
            if leaf < n:
                decision = branch
                break
            leaf -= n
    return tests


def _label(text: str) -> str:
    """A unit without its outer spaces: boxes have gaps."""
    return text.strip(" ").replace("\n", "⏎") or "␣"


def _attention_by_edge(packet: Packet) -> dict[tuple[int, int, int], dict[str, bool | float | None]]:
    """Measurements by state, leaf and argument."""
    edges, weight = packet.attention.get("edges_M4"), packet.attention.get("weight_MLH")
    causal = packet.attention.get("causal_M")
    if edges is None or weight is None or causal is None:
        return {}
    return {
        (int(state), int(leaf), int(argument)): {
            "causal": None if causal[m] < 0 else bool(causal[m]),
            "attention": round(float(weight[m].max()), 4),
        }
        for m, (state, leaf, argument, _) in enumerate(edges)
    }


# -- drawing ----------------------------------------------------------------------------------------------------------
_GAP, _CHARACTER, _PAD, _BOX = 5.0, 7.8, 9.0, 26.0
_HIGHEST = 150.0


@dataclass(frozen=True)
class _Box:
    """A unit on the picture."""

    unit: UnitSummary
    x: float
    width: float

    @property
    def middle(self) -> float:
        """Where its arcs begin and end."""
        return self.x + self.width / 2


@dataclass(frozen=True)
class _Arc:
    """An edge, or a guard, between two boxes."""

    start: float
    end: float
    height: float
    width: float
    tooltip: str
    rule: int | None = None
    causal: bool | None = None
    guard: bool = False


def draw_template(template: TemplateSummary, rules: list[str]) -> str:
    """An SVG: units in a row, arguments of rules as arcs above, copies and guards as arcs below."""
    left, boxes = 6.0, list[_Box]()
    for unit in template.units:
        width = max(_BOX if unit.kind != "literal" else 14.0, _CHARACTER * len(unit.text) + _PAD)
        boxes.append(_Box(unit, left, width))
        left += width + _GAP
    above = [_arc(boxes, e, rules) for e in template.edges if e.rule is not None]
    below = [_arc(boxes, e, rules) for e in template.edges if e.rule is None]
    below += [_guard_arc(boxes, i, s) for i, unit in enumerate(template.units) for s in unit.guards]
    top = max((arc.height for arc in above), default=0.0) * 0.75 + 12
    bottom = max((arc.height for arc in below), default=0.0) * 0.75 + 26
    return render_template(
        "graph.svg.j2",
        label=f"steps of {template.template} and their sources",
        width=round(left + 6),
        height=round(top + _BOX + bottom),
        top=top,
        box=_BOX,
        boxes=boxes,
        above=above,
        below=below,
        colour=[series(i) for i in range(len(rules))],
        rules=rules,
    )


def _height(a: _Box, b: _Box) -> float:
    return min(_HIGHEST, 10 + 5.2 * sqrt(abs(a.middle - b.middle)))


def _arc(boxes: list[_Box], edge: EdgeSummary, rules: list[str]) -> _Arc:
    step, source = boxes[edge.step], boxes[edge.source]
    role = "copy" if edge.rule is None else f"{rules[edge.rule]}, argument {edge.argument + 1}"
    effect = {None: "not tested", True: "causal", False: "no effect when ablated"}[edge.causal]
    tooltip = f"{role}: unit {edge.step} reads unit {edge.source} ({source.unit.text}); {effect}"
    if edge.attention is not None:
        tooltip += f"; strongest head pays {100 * edge.attention:.0f} %"
    # arguments end side by side, so that no arc hides another
    arity = 1 + max(0, edge.argument)
    end = step.middle + (0 if edge.rule is None else 3.5 * (arity - 2))
    width = 1.0 + 2.2 * min(1.0, max(0.0, edge.attention or 0.0))
    return _Arc(source.middle, end, _height(step, source), width, tooltip, edge.rule, edge.causal)


def _guard_arc(boxes: list[_Box], step: int, source: int) -> _Arc:
    a, b = boxes[source], boxes[step]
    tooltip = f"unit {source} selects the branch at unit {step}"
    return _Arc(a.middle, b.middle, _height(a, b), 1.2, tooltip, guard=True)
