"""The differences of two packets, as sections."""

from __future__ import annotations

from m2kt.packet import Change, PacketDiff, RuleDiff
from m2kt.render._blocks import Block, Cell, Note, Section, Table
from m2kt.render._merged import conflict_blocks
from m2kt.render._page import page
from m2kt.render._text import shown

SHOWN_ROWS = 12
_LONGEST = 48


def diff_page(diff: PacketDiff, a: str, b: str) -> str:
    """A self-contained HTML file; ``a`` and ``b`` name the packets, for example by their paths."""
    return page(f"{a} → {b}", diff_sections(diff), subtitle="differences of two packets")


def diff_sections(diff: PacketDiff) -> list[Section]:
    """The differences; rules and states are always listed."""
    if diff.identical:
        return [Section("Identical", [Note(f"Both are {diff.a}.")])]
    sections = [
        Section("Provenance", _changes(diff.manifest)),
        Section("Symbols", _symbols(diff)),
        Section("Rules", _rules(diff)),
        Section("States", _states(diff)),
        Section("Fidelity", _changes(diff.fidelity)),
        Section(
            "Conflicts",
            conflict_blocks(diff.conflicts_a, "among the sources of A")
            + conflict_blocks(diff.conflicts_b, "among the sources of B"),
        ),
    ]
    return [section for section in sections if section.blocks]


def _changes(changes: list[Change]) -> list[Block]:
    rows: list[list[Cell | str]] = [
        [c.what.replace("_", " "), _value(c.what, c.a), _value(c.what, c.b)] for c in changes
    ]
    return [Table(["", "A", "B"], rows)] if rows else []


def _value(name: str, value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int) and not isinstance(value, bool) and name != "seed":
        return f"{value:,}"
    text = str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _symbols(diff: PacketDiff) -> list[Block]:
    symbols = {"only in A": diff.symbols_removed, "only in B": diff.symbols_added}
    return [Note(f"{name}: {' '.join(map(shown, s))}", tone="") for name, s in symbols.items() if s]


def _rules(diff: PacketDiff) -> list[Block]:
    rows: list[list[Cell | str]] = [[*_rule_row(rule)] for rule in diff.rules]
    rows += [[name, "–", *[""] * 5] for name in diff.rules_removed]
    rows += [["–", name, *[""] * 5] for name in diff.rules_added]
    if not rows:
        return []
    head = ["A", "B", "rows of both", "only in A", "only in B", "other output", "cosine: mean, minimum"]
    space = "" if diff.same_space else "Another teacher or layer: the vectors are not comparable."
    blocks: list[Block] = [Table(head, rows, note=space)]
    return blocks + [_changed(rule) for rule in diff.rules if rule.changed]


def _rule_row(rule: RuleDiff) -> list[Cell]:
    cosine = "–" if rule.cosine_mean is None else f"{rule.cosine_mean:.3f}, {rule.cosine_min:.3f}"
    permuted = rule.order != list(range(len(rule.order)))
    name = rule.b + (f" (arguments {' '.join(str(i + 1) for i in rule.order)})" if permuted else "")
    counts = (len(rule.removed), len(rule.added), len(rule.changed))
    cells = [Cell(f"{n:,}", tone="bad" if n else "") for n in counts]
    return [Cell(rule.a), Cell(name), Cell(f"{rule.common:,}"), *cells, Cell(cosine)]


def _changed(rule: RuleDiff) -> Table:
    rows: list[list[Cell | str]] = [
        [" ".join(map(shown, row.arguments)), _output(row.a), _output(row.b)] for row in rule.changed[:SHOWN_ROWS]
    ]
    more = len(rule.changed) - SHOWN_ROWS
    note = f"{more} more: --json has all" if more > 0 else ""
    return Table(
        ["arguments", "output in A", "output in B"],
        rows,
        title=f"{rule.a}: rows with another output",
        note=note,
    )


def _output(symbol: str | None) -> str:
    return "not readable" if symbol is None else shown(symbol)


def _states(diff: PacketDiff) -> list[Block]:
    program = diff.program
    rows: list[list[Cell | str]] = [
        [what, f"{a:,}", f"{b:,}"] for what, (a, b) in (("states", program.states), ("leaves", program.leaves))
    ]
    blocks: list[Block] = [Table(["", "A", "B"], rows)]
    listed = {"only in A": program.removed, "only in B": program.added, "another decision": program.changed}
    for what, names in listed.items():
        if names:
            more = f", and {len(names) - SHOWN_ROWS} more" if len(names) > SHOWN_ROWS else ""
            listed_names = "; ".join(f"[{shown(name)}]" for name in names[:SHOWN_ROWS])
            blocks.append(Note(f"{what}: {listed_names}{more}", tone=""))
    return blocks
