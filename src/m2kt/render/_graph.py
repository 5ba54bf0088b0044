"""The abstraction graph as a picture: for each template the trace that most prompts take, and what its steps read.

A template's graph is a trie that may have hundreds of nodes, so one path of it is drawn, and it is said how many there
are. The summary is plain data, so that a bench can keep it and draw it without the packet.
"""

from __future__ import annotations

from collections import Counter
from math import sqrt
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from m2kt.packet import GraphExecutor, Guard, Packet, Trace, TracedUnit, fixed_lookup, read_outputs
from m2kt.probes import MASK
from m2kt.render._page import render_template
from m2kt.render._theme import series

PROMPTS = 200  # rolled out to see which path is taken most

Kind = Literal["prompt", "literal", "copy", "rule"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class UnitSummary(_Model):
    """One unit of the drawn trace."""

    text: str = Field(description="What stands there in the example.")
    kind: Kind = Field(description="Where it comes from.")
    rule: int | None = Field(default=None, description="Which rule wrote it.")
    guards: list[int] = Field(
        default_factory=list, description="Units that decided which branch is taken here."
    )


class EdgeSummary(_Model):
    """A step reads an earlier unit."""

    step: int = Field(description="Unit that is written.")
    source: int = Field(description="Unit that the graph points to.")
    read: int = Field(description="Unit that the teacher itself reads: the same symbol, maybe another place.")
    argument: int = Field(default=0, description="Which argument of the rule.")
    rule: int | None = Field(default=None, description="None: a copy.")
    causal: bool | None = Field(
        default=None, description="Does cutting it change the step? None: not tested."
    )
    attention: float | None = Field(
        default=None, description="Most that any of the teacher's heads pays along it."
    )


class TemplateSummary(_Model):
    """One template: the size of its trie and its most used path."""

    template: str
    nodes: int = Field(description="Nodes of the trie.")
    skeletons: int = Field(description="Paths from its root to an end.")
    share: float | None = Field(default=None, description="Share of fresh prompts that take the drawn path.")
    units: list[UnitSummary] = Field(default_factory=list)
    edges: list[EdgeSummary] = Field(default_factory=list)


class GraphSummary(_Model):
    """What ``Measured.graph`` of a bench result holds (``model_dump(mode="json")``)."""

    rules: list[str]
    templates: list[TemplateSummary]


def summarise_graph(packet: Packet, prompts: int = PROMPTS) -> GraphSummary:
    """Rolls ``prompts`` fresh prompts of each template out and keeps an example of the path that most of them take."""
    names = [rule.name for rule in packet.graph.rules]
    templates = [_summarise(packet, i, prompts) for i in range(len(packet.graph.templates))]
    return GraphSummary(rules=names, templates=templates)


def _summarise(packet: Packet, index: int, prompts: int) -> TemplateSummary:
    template = packet.graph.templates[index]
    found = TemplateSummary(
        template=template.template,
        nodes=len(template.nodes),
        skeletons=template.n_skeletons,
    )
    outputs = [output for output in read_outputs(packet) if output is not None]
    if len(outputs) < packet.n_concepts:
        return found  # nobody can say what these rows write, so nothing can be rolled out
    roller, table = GraphExecutor(packet.graph), fixed_lookup(outputs, packet.graph)
    asked = packet.spec.sample("rehearsal", prompts, seed=0, templates=[index])
    traces = [trace for prompt in asked if (trace := roller(prompt, table)).complete]
    if not traces:
        return found
    skeletons = [_skeleton(trace) for trace in traces]
    most, taken = Counter(skeletons).most_common(1)[0]
    example = traces[skeletons.index(most)]
    found.share = taken / len(asked)
    nodes = [None] * example.n_prompt + example.path
    attention = _attention_by_edge(packet)
    for i, (unit, node) in enumerate(zip(example.units, nodes, strict=True)):
        guards = [] if node is None else _guards(template.nodes[node].step, example.units)
        kind: Kind = "literal" if unit.kind == "prompt" and unit.symbol is None else unit.kind
        found.units.append(UnitSummary(text=_label(unit.text), kind=kind, rule=unit.rule, guards=guards))
        for argument, source in enumerate(unit.sources):
            edge = EdgeSummary(step=i, source=source, read=source, argument=argument, rule=unit.rule)
            key = (index, node, argument, source, -1 if unit.rule is None else unit.rule)
            found.edges.append(edge.model_copy(update=attention.get(key, {})))
    return found


def _skeleton(trace: Trace) -> tuple[str, ...]:
    """What the completion writes, its symbols masked."""
    units = trace.units[trace.n_prompt :]
    return tuple(u.text if u.symbol is None else u.lead + MASK for u in units)


def _label(text: str) -> str:
    """A unit as short as it can be read: the outer spaces are left out, since boxes stand apart anyway."""
    return text.strip(" ").replace("\n", "⏎") or "␣"


def _guards(step: Any, units: list[TracedUnit]) -> list[int]:
    """The units that are looked at on the way to the leaf taken."""
    looked: list[int] = []
    while isinstance(step, Guard):
        looked.append(step.source)
        seen = units[step.source].symbol
        step = next(case.then for case in step.cases if seen in case.values)
    return looked


def _attention_by_edge(packet: Packet) -> dict[tuple[int | None, ...], dict[str, Any]]:
    """(template, node, argument, source, rule or -1) to what was measured there."""
    edges, weight = packet.attention.get("edges_M6"), packet.attention.get("weight_MLH")
    causal = packet.attention.get("causal_M")
    if edges is None or weight is None or causal is None:
        return {}
    return {
        (int(t), int(node), int(argument), int(source), int(rule)): {
            "read": int(read),
            "causal": None if causal[m] < 0 else bool(causal[m]),
            "attention": round(float(weight[m].max()), 4),
        }
        for m, (t, node, argument, source, read, rule) in enumerate(edges)
    }


# -- drawing ----------------------------------------------------------------------------------------------------------
_GAP, _CHARACTER, _PAD, _BOX = 5.0, 7.8, 9.0, 26.0
_HIGHEST = 150.0


def draw_template(template: TemplateSummary, rules: list[str]) -> str:
    """An SVG: units in a row, reads of rules as arcs above, copies and decisions as arcs below."""
    left, boxes = 6.0, []
    for unit in template.units:
        width = max(_BOX if unit.kind != "literal" else 14.0, _CHARACTER * len(unit.text) + _PAD)
        boxes.append({"unit": unit, "x": left, "width": width, "middle": left + width / 2})
        left += width + _GAP
    above = [_arc(boxes, e, rules) for e in template.edges if e.rule is not None]
    below = [_arc(boxes, e, rules) for e in template.edges if e.rule is None]
    below += [_decision(boxes, i, s) for i, unit in enumerate(template.units) for s in unit.guards]
    top = max((arc["height"] for arc in above), default=0.0) * 0.75 + 12
    bottom = max((arc["height"] for arc in below), default=0.0) * 0.75 + 26
    return render_template(
        "graph.svg.j2",
        label=f"steps of {template.template} and what they read",
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


def _height(a: dict[str, Any], b: dict[str, Any]) -> float:
    return min(_HIGHEST, 10 + 5.2 * sqrt(abs(a["middle"] - b["middle"])))


def _arc(boxes: list[dict[str, Any]], edge: EdgeSummary, rules: list[str]) -> dict[str, Any]:
    step, source = boxes[edge.step], boxes[edge.source]
    what = "copy" if edge.rule is None else f"{rules[edge.rule]}, argument {edge.argument + 1}"
    said = {None: "not tested", True: "causal", False: "no effect when cut"}[edge.causal]
    about = f"{what}: unit {edge.step} reads unit {edge.source} ({source['unit'].text}); {said}"
    if edge.attention is not None:
        about += f"; strongest head pays {100 * edge.attention:.0f} %"
    if edge.read != edge.source:
        about += f"; the teacher looks at the same symbol at unit {edge.read}"
    # arguments arrive side by side, or their arcs would hide each other
    arity = 1 + max(0, edge.argument)
    return {
        "from": source["middle"],
        "to": step["middle"] + (0 if edge.rule is None else 3.5 * (arity - 2)),
        "height": _height(step, source),
        "rule": edge.rule,
        "causal": edge.causal,
        "width": 1.0 + 2.2 * min(1.0, max(0.0, edge.attention or 0.0)),
        "about": about,
        "decision": False,
    }


def _decision(boxes: list[dict[str, Any]], step: int, source: int) -> dict[str, Any]:
    return {
        "from": boxes[source]["middle"],
        "to": boxes[step]["middle"],
        "height": _height(boxes[step], boxes[source]),
        "rule": None,
        "causal": None,
        "width": 1.2,
        "about": f"unit {source} decides which branch is taken at unit {step}",
        "decision": True,
    }
