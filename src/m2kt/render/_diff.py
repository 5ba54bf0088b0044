"""``m2kt diff A B``: what differs between two packets, as sections."""

from __future__ import annotations

from typing import Any

from m2kt.packet import Change, PacketDiff, RuleDiff
from m2kt.render._blocks import Block, Cell, Note, Section, Table
from m2kt.render._page import page
from m2kt.render._text import shown

SHOWN_ROWS = 12
_LONGEST = 48


def diff_page(diff: PacketDiff, a: str, b: str) -> str:
    """A self-contained HTML file; ``a`` and ``b`` are what the packets are called, such as their paths."""
    return page(f"{a} → {b}", diff_sections(diff), subtitle="what differs between two packets")


def diff_sections(diff: PacketDiff) -> list[Section]:
    """Only what differs, but for rules and shapes, which are always listed."""
    if diff.identical:
        return [Section("Identical", [Note(f"Both are {diff.a}.")])]
    sections = [
        Section("Provenance", _changes(diff.manifest)),
        Section("Symbols", _symbols(diff)),
        Section("Rules", _rules(diff)),
        Section("Shapes", _shapes(diff)),
        Section("Fidelity", _changes(diff.fidelity)),
    ]
    return [section for section in sections if section.blocks]


def _changes(changes: list[Change]) -> list[Block]:
    rows: list[list[Cell | str]] = [
        [c.what.replace("_", " "), _value(c.what, c.a), _value(c.what, c.b)] for c in changes
    ]
    return [Table(["", "A", "B"], rows)] if rows else []


def _value(what: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int) and not isinstance(value, bool) and what != "seed":
        return f"{value:,}"
    text = str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _symbols(diff: PacketDiff) -> list[Block]:
    named = {"only in A": diff.symbols_removed, "only in B": diff.symbols_added}
    return [Note(f"{name}: {' '.join(map(shown, found))}", tone="") for name, found in named.items() if found]


def _rules(diff: PacketDiff) -> list[Block]:
    rows: list[list[Cell | str]] = [[*_rule_row(rule)] for rule in diff.rules]
    rows += [[name, "–", *[""] * 5] for name in diff.rules_removed]
    rows += [["–", name, *[""] * 5] for name in diff.rules_added]
    if not rows:
        return []
    head = ["A", "B", "rows of both", "only in A", "only in B", "say otherwise", "cosine: mean, least"]
    space = "" if diff.same_space else "Other teacher or other layer: the vectors are not comparable."
    blocks: list[Block] = [Table(head, rows, note=space)]
    return blocks + [_changed(rule) for rule in diff.rules if rule.changed]


def _rule_row(rule: RuleDiff) -> list[Cell]:
    cosine = "–" if rule.cosine_mean is None else f"{rule.cosine_mean:.3f}, {rule.cosine_min:.3f}"
    turned = rule.order != list(range(len(rule.order)))
    name = rule.b + (f" (arguments {' '.join(str(i + 1) for i in rule.order)})" if turned else "")
    counts = (len(rule.removed), len(rule.added), len(rule.changed))
    cells = [Cell(f"{n:,}", tone="bad" if n else "") for n in counts]
    return [Cell(rule.a), Cell(name), Cell(f"{rule.common:,}"), *cells, Cell(cosine)]


def _changed(rule: RuleDiff) -> Table:
    rows: list[list[Cell | str]] = [
        [" ".join(map(shown, row.arguments)), _said(row.a), _said(row.b)] for row in rule.changed[:SHOWN_ROWS]
    ]
    more = len(rule.changed) - SHOWN_ROWS
    note = f"{more} more: --json has all" if more > 0 else ""
    return Table(
        ["arguments", "A says", "B says"], rows, title=f"{rule.a}: rows that say otherwise", note=note
    )


def _said(symbol: str | None) -> str:
    return "not to be read" if symbol is None else shown(symbol)


def _shapes(diff: PacketDiff) -> list[Block]:
    rows: list[list[Cell | str]] = []
    for t in diff.templates:
        counts = (t.removed, t.added, t.steps_changed)
        cells = [Cell(f"{n:,}", tone="bad" if n else "") for n in counts]
        rows.append([t.template, f"{t.nodes[0]:,} / {t.nodes[1]:,}", f"{t.common:,}", *cells])
    rows += [[name, "only in A", *[""] * 4] for name in diff.templates_removed]
    rows += [[name, "only in B", *[""] * 4] for name in diff.templates_added]
    head = ["shape", "nodes", "skeletons of both", "only in A", "only in B", "steps decided otherwise"]
    return [Table(head, rows)] if rows else []
