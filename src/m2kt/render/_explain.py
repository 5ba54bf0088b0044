"""An answer as a picture: its units in a row, arcs to what each of them was read from, and what the student alone says.

The picture is an SVG that stands by itself (in a README, a notebook, a page), light and dark, and needs no library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

from m2kt.probes import END
from m2kt.render._blocks import Block, Cell, Figure, Note, Row, Section, Table, percent
from m2kt.render._page import page
from m2kt.render._theme import DARK, LIGHT, SERIES

Kind = Literal["concept", "copy", "literal", "base"]
WORDS: dict[Kind, str] = {
    "concept": "a rule of the packet",
    "copy": "a copy of earlier text",
    "literal": "fixed text of the packet",
    "base": "the student by itself",
}
_CHARACTER, _SMALL, _PAD, _GAP = 9.0, 5.9, 7.0, 5.0  # pixels
_BOX, _PROMPT_SHOWN = 26.0, 60
_STEP = 0.9  # seconds a unit takes in an animated picture


@dataclass(frozen=True)
class DrawnUnit:
    """A unit of an answer, and where it comes from."""

    text: str
    start: int
    """Its first character in the whole text."""
    end: int
    kind: Kind
    because: str
    """In a few words: ``r0(a, b)``, ``copy``."""
    rule: str | None = None
    confidence: float | None = None
    reads: list[tuple[str, int | None, int | None]] = field(default_factory=list)
    """Text, first character, end of what it was read from."""
    probability: float = 0.0
    base_probability: float = 0.0
    base_text: str = ""
    reader_push: float = 0.0
    base_push: float = 0.0
    without: str | None = None
    changed: bool | None = None


@dataclass(frozen=True)
class _Box:
    """A piece of text in the row."""

    text: str
    start: int
    end: int
    x: float
    width: float
    unit: int | None = None

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


def visible(text: str) -> str:
    """Text in a small box: marks for blanks that would not be seen."""
    if text == END:
        return "end"
    bare = text.strip(" ")
    return (bare or "␣" * max(1, len(text))).replace("\n", "⏎").replace("\t", "⇥")


def draw_answer(text: str, start: int, units: Sequence[DrawnUnit], *, animated: bool = False) -> str:
    """An SVG of prompt and answer.

    Args:
        text: prompt and answer.
        start: first character of the answer.
        units: the answer's.
        animated: the answer is written unit by unit, again and again; still where the reader prefers no motion.
    """
    boxes = _boxes(text, start, units)
    arcs = [arc for box in boxes if box.unit is not None for arc in _arcs(box, units[box.unit], boxes)]
    highest = max((height for _, height, _ in arcs), default=0.0)
    top = 14 + highest
    width, height = (boxes[-1].x + boxes[-1].width if boxes else 0) + 12, top + _BOX + 66
    colours = _rule_colours(units)
    label = f"the answer {text[start:].strip()!r} to {text[:start].strip()!r}, and what each unit was read from"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="m2kt-answer" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{escape(label)}">',
        f"<style>{_style(len(units) if animated else 0)}</style>",
    ]
    for path, _, unit in arcs:
        colour = _colour(units[unit], colours)
        lines.append(f'<path class="arc u{unit}" style="stroke:{colour}" d="{path.replace("TOP", f"{top:.1f}")}"/>')
    lines += [_draw_box(box, units, colours, top) for box in boxes]
    lines += [_legend(units, colours, height - 12), "</svg>"]
    return "\n".join(lines)


def _boxes(text: str, start: int, units: Sequence[DrawnUnit]) -> list[_Box]:
    """The prompt, cut where something was read, then a box for each unit."""
    marks = sorted(
        {(s, e) for unit in units for _, s, e in unit.reads if s is not None and e is not None and e <= start}
    )
    pieces: list[tuple[str, int, int]] = []
    at = 0
    for s, e in marks:
        if s < at:
            continue
        pieces += [(text[at:s], at, s), (text[s:e], s, e)]
        at = e
    pieces.append((text[at:start], at, start))
    boxes, x = list[_Box](), 8.0
    for piece, s, e in pieces:
        if not piece.strip():
            x += _GAP if piece else 0
            continue
        short = piece if len(piece) <= _PROMPT_SHOWN else "…" + piece[-_PROMPT_SHOWN:]
        width = _CHARACTER * len(visible(short)) + 2 * _PAD
        boxes.append(_Box(short, s, e, x, width))
        x += width + _GAP
    x += 3 * _GAP
    for number, unit in enumerate(units):
        content = max(_CHARACTER * len(visible(unit.text)), _SMALL * len(unit.because), _SMALL * len(_alone(unit)))
        boxes.append(_Box(unit.text, unit.start, unit.end, x, content + 2 * _PAD, number))
        x += content + 2 * _PAD + _GAP
    return boxes


def _alone(unit: DrawnUnit) -> str:
    return "" if unit.kind == "base" else f"alone: {visible(unit.base_text)}"


def _arcs(box: _Box, unit: DrawnUnit, boxes: Sequence[_Box]) -> list[tuple[str, float, int]]:
    """Paths from a unit to what it was read from, with their heights; ``TOP`` stands for the row's upper edge."""
    assert box.unit is not None
    arcs = []
    for _, start, end in unit.reads:
        if start is None or end is None:
            continue
        source = next((b for b in boxes if b.start <= start and end <= b.end and b is not box), None)
        if source is None:
            continue
        height = min(90.0, 16 + 0.22 * abs(box.middle - source.middle))
        a, b = source.middle, box.middle
        path = f"M{a:.1f} TOPc0 {-height:.1f} {b - a:.1f} {-height:.1f} {b - a:.1f} 0"
        arcs.append((path, 0.75 * height, box.unit))
    return arcs


def _rule_colours(units: Sequence[DrawnUnit]) -> dict[str, int]:
    rules = dict.fromkeys(unit.rule for unit in units if unit.kind == "concept" and unit.rule is not None)
    return {rule: i % len(SERIES) for i, rule in enumerate(rules)}


def _colour(unit: DrawnUnit, colours: dict[str, int]) -> str:
    if unit.kind == "concept" and unit.rule is not None:
        return f"var(--m2kt-s{colours[unit.rule]})"
    return "var(--m2kt-muted)"


def _draw_box(box: _Box, units: Sequence[DrawnUnit], colours: dict[str, int], top: float) -> str:
    y, middle = top, box.middle
    name = escape(visible(box.text))
    if box.unit is None:
        return (
            f'<g class="prompt"><rect x="{box.x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{_BOX}" rx="5"/>'
            f'<text class="written" x="{middle:.1f}" y="{y + 18:.1f}">{name}</text></g>'
        )
    unit = units[box.unit]
    total = max(1e-6, max(0.0, unit.reader_push) + max(0.0, unit.base_push))
    share = max(0.0, unit.reader_push) / total
    wide = box.width - 2
    below = y + _BOX
    bar = f'x="{box.x + 1:.1f}" y="{below + 3:.1f}" height="3" rx="1.5"'
    parts = [
        f'<g class="{unit.kind} u{box.unit}" style="--m2kt-own:{_colour(unit, colours)}">',
        f"<title>{escape(_tooltip(unit))}</title>",
        f'<rect x="{box.x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{_BOX}" rx="5"/>',
        f'<text class="written" x="{middle:.1f}" y="{y + 18:.1f}">{name}</text>',
        f'<rect class="push base-push" {bar} width="{wide:.1f}"/>',
        f'<rect class="push" {bar} width="{wide * share:.1f}"/>',
        f'<text class="because" x="{middle:.1f}" y="{below + 18:.1f}">{escape(unit.because)}</text>',
        f'<text class="alone" x="{middle:.1f}" y="{below + 31:.1f}">{escape(_alone(unit))}</text></g>',
    ]
    return "".join(parts)


def _tooltip(unit: DrawnUnit) -> str:
    parts = [f"{visible(unit.text)}: {WORDS[unit.kind]}"]
    if unit.kind == "concept":
        parts.append(f"{unit.because}" + (f", teacher {percent(unit.confidence)} sure" if unit.confidence else ""))
    if unit.reads:
        parts.append("read from " + ", ".join(visible(text) for text, _, _ in unit.reads))
    parts.append(f"probability {percent(unit.probability)}, without the adapter {percent(unit.base_probability)}")
    if unit.without is not None:
        parts.append(f"without it: {visible(unit.without)}")
    return "; ".join(parts)


def _legend(units: Sequence[DrawnUnit], colours: dict[str, int], y: float) -> str:
    texts = []
    if any(unit.kind == "concept" for unit in units):
        texts.append("coloured: a rule wrote it, arcs show its arguments")
    if any(unit.kind == "copy" for unit in units):
        texts.append("grey: a copy")
    if any(unit.kind != "base" for unit in units):
        texts.append("bar: how much the adapter pushed; alone: what the student says by itself")
    if not texts:
        texts.append("the adapter did nothing here: this is no question of its skill")
    return f'<text class="legend" x="8" y="{y:.1f}">{escape("; ".join(texts))}</text>'


def _style(animated: int) -> str:
    """Light and dark colours, and for so many units the steps of the animation."""
    variables = {
        name: "".join(f"--m2kt-{key}:{colour};" for key, colour in theme.items())
        for name, theme in (("light", LIGHT), ("dark", DARK))
    }
    rules = [
        f".m2kt-answer{{{variables['light']}font-family:ui-sans-serif,system-ui,sans-serif;width:auto;max-width:none}}",
        f"@media(prefers-color-scheme:dark){{.m2kt-answer{{{variables['dark']}}}}}",
        ".m2kt-answer text{text-anchor:middle;fill:var(--m2kt-ink);font-size:11px}",
        ".m2kt-answer .written{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:15px}",
        ".m2kt-answer .alone,.m2kt-answer .legend{fill:var(--m2kt-muted);font-size:10px}",
        ".m2kt-answer .legend{text-anchor:start;font-size:11px}",
        ".m2kt-answer .because{font-size:10.5px}",
        ".m2kt-answer rect{fill:none;stroke:var(--m2kt-line)}",
        ".m2kt-answer .prompt rect{stroke:none;fill:var(--m2kt-line);fill-opacity:.35}",
        ".m2kt-answer .concept>rect:not(.push){fill:var(--m2kt-own);fill-opacity:.22;stroke:var(--m2kt-own)}",
        ".m2kt-answer .copy>rect:not(.push){stroke:var(--m2kt-muted)}",
        ".m2kt-answer .literal>rect:not(.push),.m2kt-answer .base>rect:not(.push){stroke-dasharray:2 3}",
        ".m2kt-answer .push{stroke:none;fill:var(--m2kt-own)}.m2kt-answer .base-push{fill:var(--m2kt-line)}",
        ".m2kt-answer .arc{fill:none;stroke-width:1.6;opacity:.75}",
    ]
    if animated:
        rules.append("@media(prefers-reduced-motion:no-preference){" + "".join(_steps(animated)) + "}")
    return "".join(rules)


def _steps(n: int) -> list[str]:
    """Keyframes: a unit appears in its turn, its arcs light up, and all stay until the end of the round."""
    seconds = _STEP * (n + 5)
    rules = []
    for i in range(n):
        begin, lit = 100 * _STEP * (i + 1) / seconds, 100 * _STEP * (i + 2) / seconds
        hidden = f"0%,{begin - 0.4:.2f}%"
        rules += [
            f"@keyframes m2kt-u{i}{{{hidden}{{opacity:0}}{begin:.2f}%,97%{{opacity:1}}100%{{opacity:0}}}}",
            f"@keyframes m2kt-a{i}{{{hidden}{{opacity:0;stroke-width:1.6}}",
            f"{begin:.2f}%,{lit:.2f}%{{opacity:1;stroke-width:3}}",
            f"{lit + 1:.2f}%,97%{{opacity:.4;stroke-width:1.6}}100%{{opacity:0}}}}",
            f".m2kt-answer g.u{i}{{animation:m2kt-u{i} {seconds:.1f}s linear infinite}}",
            f".m2kt-answer path.u{i}{{animation:m2kt-a{i} {seconds:.1f}s linear infinite}}",
        ]
    return rules


def explanation_page(
    title: str, picture: str, units: Sequence[DrawnUnit], answers: dict[str, str], origin: dict[str, str]
) -> str:
    """A self-contained HTML file.

    Args:
        picture: from :func:`draw_answer`.
        answers: what is said with the adapter, without it, and without each concept.
        origin: where the skill comes from.
    """
    caption = "Each box right of the gap is a unit of the answer; arcs lead to what it was read from."
    blocks: list[Block] = [Figure(lambda: picture, caption)]
    sections = [
        Section("The answer", blocks),
        Section("Unit by unit", [units_table(units)], intro="What wrote each unit, and what stands there without it."),
        Section("Said without", [Table(["", "the student says"], [[k, Cell(v)] for k, v in answers.items()])]),
        Section("Where it comes from", [Row([Table(["", ""], [[k, v] for k, v in origin.items()])])]),
    ]
    if all(unit.kind == "base" for unit in units):
        note = "The adapter did nothing: it did not take this text for a question of its skill."
        sections[0].blocks.append(Note(note, tone=""))
    return page(title, sections, subtitle="where an answer comes from")


def units_table(units: Sequence[DrawnUnit]) -> Table:
    """What wrote each unit."""
    rows: list[list[Cell | str]] = []
    for unit in units:
        without = "–" if unit.without is None else visible(unit.without)
        rows.append(
            [
                Cell(visible(unit.text), tone="strong" if unit.kind == "concept" else ""),
                unit.because,
                ", ".join(visible(text) for text, _, _ in unit.reads) or "–",
                percent(unit.confidence),
                f"{percent(unit.probability)} ({percent(unit.base_probability)})",
                f"{unit.reader_push:+.1f} on {unit.base_push:.1f}",
                Cell(without, tone="" if unit.changed else "quiet"),
            ]
        )
    head = [
        "writes",
        "because of",
        "read from",
        "teacher sure",
        "probability (alone)",
        "push on the base's",
        "without it",
    ]
    note = "A push is a logit's height above the vocabulary's mean. Grey: the student alone would write the same."
    return Table(head, rows, note=note)
