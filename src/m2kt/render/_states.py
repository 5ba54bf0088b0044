"""A program as a state chart: what each state writes, where it looks, and which states may follow.

States are set in layers by their distance from the start. The chart is plain data, drawn as SVG here and as a tree on
terminals.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from textwrap import wrap

from m2kt.packet import START_STATE, Decision, Leaf, Program, Test, WriteLiteral, WriteRule, leaves
from m2kt.probes import MASK
from m2kt.render._page import render_template
from m2kt.render._theme import series
from m2kt.render._words import leaf_text, mask_text, question_text, state_text, values_text


@dataclass(frozen=True)
class Line:
    """A line of a decision: a question, one of its cases, or a leaf."""

    depth: int
    text: str
    rule: int | None = None
    """The rule that the line applies."""


@dataclass
class ChartState:
    """A state of the chart."""

    name: str
    lines: list[Line]
    layer: int | None = None
    """Steps from the start; None: not reached."""
    following: dict[int, list[str]] = field(default_factory=dict)
    """By state that may follow, what is written on the way to it."""
    ends: bool = False
    """Whether it may write the stop string."""


def state_chart(program: Program) -> list[ChartState]:
    """All states, with their lines, what may follow, and their layers."""
    chart = [
        ChartState(state_text(state.after, program), list(_lines(state.decision, program, 0)))
        for state in program.states
    ]
    for state, drawn in zip(program.states, chart, strict=True):
        for leaf in leaves(state.decision):
            if isinstance(leaf, WriteLiteral) and leaf.symbol is None and leaf.text == program.stop:
                drawn.ends = True
                continue
            for mask in _masks(leaf, program):
                for number in _following(program, (*state.after, mask)):
                    text = mask_text(mask, program)
                    if text not in drawn.following.setdefault(number, []):
                        drawn.following[number].append(text)
    _set_layers(program, chart)
    return chart


def _lines(decision: Decision, program: Program, depth: int, head: str = "") -> Iterator[Line]:
    if not isinstance(decision, Test):
        rule = decision.rule if isinstance(decision, WriteRule) else None
        yield Line(depth, head + leaf_text(decision, program), rule)
        return
    yield Line(depth, head + question_text(decision.ask, program))
    for case in decision.cases:
        yield from _lines(case.then, program, depth + 1, f"{values_text(decision.ask, case.values, program)}: ")
    if decision.otherwise is not None:
        yield from _lines(decision.otherwise, program, depth + 1, "else: ")


def _masks(leaf: Leaf, program: Program) -> list[str]:
    """The masks that a leaf may write."""
    if isinstance(leaf, WriteLiteral):
        if leaf.symbol is None:
            return [leaf.text]
        symbols = [leaf.symbol]
    elif isinstance(leaf, WriteRule):
        symbols = program.rules[leaf.rule].range
    else:
        symbols = list(range(len(program.symbols)))
    return sorted({f"{leaf.lead}{MASK}{program.classes[s]}" for s in symbols})


def _following(program: Program, after: tuple[str, ...]) -> list[int]:
    """States behind units of these last masks: the longest name that they end with, and longer ones that end so."""
    best, longer = -1, []
    for i, state in enumerate(program.states):
        n = len(state.after)
        if after[-n:] == state.after:
            if best < 0 or n > len(program.states[best].after):
                best = i
        elif n > len(after) and state.after[-len(after) :] == after and after[0] not in START_STATE:
            longer.append(i)
    return [*([best] if best >= 0 else []), *longer]


def _set_layers(program: Program, chart: list[ChartState]) -> None:
    reached = [i for i, state in enumerate(program.states) if state.after == START_STATE]
    layer = 0
    while reached:
        for i in reached:
            chart[i].layer = layer
        layer += 1
        reached = list(dict.fromkeys(j for i in reached for j in chart[i].following if chart[j].layer is None))


# -- drawing ----------------------------------------------------------------------------------------------------------
_WIDTH, _LINE, _HEAD, _GAP_X, _GAP_Y = 290.0, 15.0, 24.0, 54.0, 30.0
_CHARACTERS = 44  # of a line
_INDENT = 2
_LABEL = 8  # characters of an arrow
_MOST_LINES = 24  # of a box; the rest is counted


@dataclass(frozen=True)
class _Box:
    state: ChartState
    lines: list[Line]
    x: float
    y: float
    height: float


@dataclass(frozen=True)
class _Arrow:
    path: str
    label: str
    short: str
    x: float
    y: float
    back: bool


def draw_states(program: Program) -> str:
    """The chart as SVG: a box a state, arrows to what may follow, dashed where they lead back."""
    chart = state_chart(program)
    boxes = _boxes(chart)
    arrows = [
        _arrow(boxes[i], boxes[j], written, k)
        for i, state in enumerate(chart)
        for k, (j, written) in enumerate(state.following.items())
    ]
    return render_template(
        "states.svg.j2",
        label="state chart of the program",
        width=round(max((box.x for box in boxes), default=0) + _WIDTH + 60),
        height=round(max((box.y + box.height for box in boxes), default=0) + 24),
        box_width=_WIDTH,
        head=_HEAD,
        line_height=_LINE,
        boxes=boxes,
        arrows=arrows,
        colour=[series(i) for i in range(len(program.rules))],
    )


def _boxes(chart: list[ChartState]) -> list[_Box]:
    """Columns are layers; states that nothing reaches are in the last one."""
    last = max((state.layer for state in chart if state.layer is not None), default=-1) + 1
    below: dict[int, float] = {}
    boxes = []
    for state in chart:
        column = last if state.layer is None else state.layer
        lines = _wrapped(state.lines)
        y = below.get(column, 12.0)
        height = _HEAD + _LINE * len(lines) + 8
        below[column] = y + height + _GAP_Y
        boxes.append(_Box(state, lines, 12 + column * (_WIDTH + _GAP_X), y, height))
    return boxes


def _wrapped(lines: list[Line]) -> list[Line]:
    """Lines that fit a box."""
    fitting = []
    for line in lines:
        for k, piece in enumerate(wrap(line.text, max(16, _CHARACTERS - _INDENT * line.depth)) or [""]):
            fitting.append(Line(line.depth + (k > 0), piece, line.rule))
    more = len(fitting) - _MOST_LINES
    return fitting if more <= 0 else [*fitting[:_MOST_LINES], Line(0, f"and {more} lines more")]


def _arrow(start: _Box, end: _Box, written: list[str], number: int) -> _Arrow:
    """From the right of one box to the left of another; back and within a column over the right side."""
    label = " | ".join(written[:4]) + (" …" if len(written) > 4 else "")
    x0, y0 = start.x + _WIDTH, start.y + min(start.height - 6, _HEAD + 6 + 11 * number)
    forward = end.x > start.x
    if forward:
        x1, y1, bend = end.x, end.y + _HEAD / 2, _GAP_X * 0.7
        path = f"M{x0:.1f} {y0:.1f}C{x0 + bend:.1f} {y0:.1f} {x1 - bend:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    else:
        x1, y1, bend = end.x + _WIDTH, end.y + _HEAD / 2, _GAP_X * 0.8
        path = f"M{x0:.1f} {y0:.1f}C{x0 + bend:.1f} {y0:.1f} {x1 + bend:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    short = label if len(label) <= _LABEL else label[: _LABEL - 1] + "…"
    return _Arrow(path, label, short, x0 + 4, y0 - 3, not forward)
