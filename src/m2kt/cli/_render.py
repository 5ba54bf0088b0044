"""Tables and trees for terminals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from m2kt.render import (
    LEGEND,
    MAX_ROWS,
    Grid,
    Note,
    Section,
    merged_blocks,
    output_text,
    percent,
    rule_grids,
    rule_title,
    shown,
    state_chart,
)
from m2kt.render import Table as Block

if TYPE_CHECKING:
    from m2kt.auditor import Finding, Judgement
    from m2kt.packet import Packet, PacketDescription, Program, RuleDescription
    from m2kt.student import FitnessCheck


def packet_views(packet: Packet, about: PacketDescription, columns: int) -> Iterator[RenderableType]:
    """The output of ``m2kt inspect``, for a console of a number of columns."""
    yield Text(f"packet {about.name}", style="bold")
    yield _head(about)
    yield _fidelity(about)
    yield Text("Symbols: ", style="bold").append(" ".join(map(shown, about.symbols)), style="not bold")
    if about.merged is not None:
        yield from section_views([Section("Merged from", merged_blocks(about.merged))])
    for rule in about.rules:
        yield _rule(rule, columns)
    if about.rules:
        yield Text(LEGEND, style="dim")
    yield _program(packet.program)
    for note in about.notes:
        yield Text(f"note: {' '.join(note.split())}")  # its second line could look like one of ours
    for warning in about.unseen:
        yield Text(f"look: {warning}", style="bold red")


def _head(about: PacketDescription) -> Table:
    teacher, ledger = about.teacher, about.ledger
    table = Table(show_header=False)
    kind = f"fallback (plain traces): {about.fallback_reason}" if about.fallback else "full extraction"
    rows = {
        "digest": about.digest,
        "signed by key": about.signer or "not verified",
        "kind": kind,
        "teacher": f"{teacher.name}: {teacher.architecture}, {teacher.parameters:,} parameters, "
        f"{teacher.layers} blocks of width {teacher.width}",
        "teacher's digest": teacher.digest,
        "teacher's licence": teacher.licence or "not stated",
        "created": f"{about.created}, seed {about.seed}",
        "vectors": f"layer {about.embedding.layer}, by {about.embedding.source}",
        "verbalised share": f"{about.verbalised:g}",
        "ledger": f"{ledger.labelled_examples} labelled examples, {ledger.teacher_passes:,} teacher passes, "
        f"{ledger.teacher_tokens_in_traces:,} teacher tokens in traces, {ledger.concepts:,} concepts, "
        f"{ledger.packet_bytes:,} bytes, {ledger.seconds:.1f} s",
    }
    for name, value in rows.items():
        table.add_row(name, Text(str(value), overflow="fold"))
    return table


def _fidelity(about: PacketDescription) -> Table:
    fidelity, attention = about.fidelity, about.attention
    table = Table("fidelity on fresh prompts", "agreement", "coverage", "prompts", title_justify="left")
    for shape in fidelity.shapes:
        values = (percent(shape.agreement, 2), percent(shape.coverage, 2), str(shape.n))
        table.add_row(Text(shape.template), *values)
    table.add_section()
    table.add_row("all", percent(fidelity.agreement, 2), percent(fidelity.coverage, 2), "")
    for size in fidelity.sizes:
        said = f"{size.agreed} of {size.asked}" if size.asked else "not asked"
        table.add_row(Text(f"{size.template} (not probed)"), said, percent(size.coverage, 2), "")
    table.add_row("probe accuracy (cross-validated)", percent(fidelity.probe_accuracy, 2), "", "")
    for name, value in sorted(fidelity.other.items()):
        table.add_row(Text(name.replace("_", " ")), f"{value:.4g}", "", "")
    counts = ""
    if attention.causal is not None:
        counts = f"{attention.causal} causal, {attention.not_causal} without effect"
        counts += f", {attention.not_tested} not tested" if attention.not_tested else ""
    share = percent(attention.causal_share)
    table.add_row(f"attention: causal share of {attention.edges} edges", share, counts, "")
    return table


def _rule(rule: RuleDescription, columns: int) -> RenderableType:
    """A rule as grids over its two widest arguments, one per choice of the others; else as a list."""
    grids = rule_grids(rule)
    if not grids:
        return _list_table(rule)
    return Group(Text(rule_title(rule), style="bold"), *(_grid(grid, columns) for grid in grids))


def _grid(grid: Grid, columns: int) -> Table:
    """Outputs by two arguments; a line per value of the first where the grid is too wide for the console."""
    corner, down, across = grid.corner, grid.down, grid.across
    cells = {key: output_text(row) for key, row in grid.cells.items()}
    first = max(len(corner), *(len(shown(v)) for v in down))
    needed = first + 4 + sum(3 + max(len(shown(a)), *(len(cells.get((d, a), "·")) for d in down)) for a in across)
    title = grid.fixed or None
    if needed <= columns:
        table = Table(corner, *(escape(shown(v)) for v in across), title=title, title_justify="left")
        for d in down:
            table.add_row(Text(shown(d), style="bold"), *(Text(cells.get((d, a), "·")) for a in across))
        return table
    table = Table(corner[0], f"{corner[-1]}: output", title=title, title_justify="left", show_lines=True)
    for d in down:
        line = "   ".join(f"{shown(a)}→{cells[d, a]}" for a in across if (d, a) in cells)
        table.add_row(Text(shown(d), style="bold"), Text(line))
    return table


def _list_table(rule: RuleDescription) -> RenderableType:
    table = Table("arguments", "output")
    for row in rule.rows[:MAX_ROWS]:
        table.add_row(Text(" ".join(map(shown, row.arguments))), Text(output_text(row)))
    if len(rule.rows) > MAX_ROWS:
        table.add_row(f"... {len(rule.rows) - MAX_ROWS} more", "--json has all")
    return Group(Text(rule_title(rule), style="bold"), table)


def _program(program: Program) -> Tree:
    """The state chart as a tree: a branch a state, with its decision and what may follow."""
    chart = state_chart(program)
    tree = Tree(Text(f"program: {len(chart)} states, {program.n_leaves} leaves", style="bold"))
    if not chart:
        tree.add("no step could be explained")
    for number, state in enumerate(chart):
        branch = tree.add(Text(f"{number}  {state.name}", style="" if state.layer is None else "bold"))
        open_lines = [branch]
        for line in state.lines:
            del open_lines[line.depth + 1 :]
            open_lines.append(open_lines[line.depth].add(Text(line.text)))
        arrows = [f"{' | '.join(written)} → {following}" for following, written in state.following.items()]
        arrows += ["the end"] if state.ends else []
        branch.add(Text("then " + ", ".join(arrows), style="dim"))
    return tree


def section_views(sections: list[Section]) -> Iterator[RenderableType]:
    """Tables and remarks of a report's sections, without pictures."""
    tones = {"": "", "good": "green", "bad": "red", "quiet": "dim", "strong": "bold"}
    for section in sections:
        yield Text(section.title, style="bold")
        for block in section.blocks:
            if isinstance(block, Note):
                yield Text(block.text)
            elif isinstance(block, Block):
                if block.title:
                    yield Text(block.title)
                table = Table(*(escape(head) for head in block.head))
                for row in block.cells:
                    table.add_row(*(Text(cell.text, style=tones[cell.tone]) for cell in row))
                yield table
                if block.note:
                    yield Text(block.note)


def check_table(checks: list[FitnessCheck]) -> Table:
    """Checks of a preflight."""
    words = {True: ("fit", "green"), False: ("unfit", "red"), None: ("not judged", "dim")}
    table = Table("check", "", "measured", "expected", "what to do")
    for check in checks:
        word, colour = words[check.fit]
        texts = (Text(text, overflow="fold") for text in (check.measured, check.needed, check.advice))
        table.add_row(check.name, Text(word, style=colour), *texts)
    return table


def finding_table(findings: list[Finding]) -> Table:
    """Flagged texts of a packet."""
    table = Table("where", "text", "category", "score", "because")
    for finding in findings:
        table.add_row(finding.where, Text(finding.text), finding.category, f"{finding.score:.2f}", Text(finding.what))
    return table


def text_table(judged: list[tuple[str, Judgement]]) -> Table:
    """Flagged ones among texts with their judgements."""
    table = Table("text", "category", "score", "because")
    for text, judgement in judged:
        if judgement.flagged:
            start = Text(text if len(text) <= 80 else f"{text[:77]}...")
            table.add_row(start, judgement.category, f"{judgement.score:.2f}", Text(judgement.what))
    return table
