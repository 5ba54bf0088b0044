"""Tables and trees for people."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from m2kt.cli._output import percent

if TYPE_CHECKING:
    from m2kt.packet import Decision, Graph, Packet, TemplateGraph
    from m2kt.pipeline import DemoResult

MAX_GRIDS = 6
MAX_ROWS = 60
LEGEND = (
    "Outputs: plain = travels as text; ~x = travels as a vector only, which the packet's own symbol states read as x; "
    "· = no such row."
)


def packet_views(packet: Packet, about: dict[str, Any], room: int) -> Iterator[RenderableType]:
    """Everything ``m2kt inspect`` prints, in order, for a console of ``room`` columns."""
    yield Text(f"packet {about['name']}", style="bold")
    yield _head(about)
    yield _fidelity(about)
    yield Text("Symbols: ", style="bold").append(" ".join(map(_shown, about["symbols"])), style="not bold")
    for rule in about["rules"]:
        yield _rule(rule, room)
    if about["rules"]:
        yield Text(LEGEND, style="dim")
    for index in range(len(packet.graph.templates)):
        yield _template(packet, index)
    for note in about["notes"]:
        yield Text(f"note: {note}")


def _head(about: dict[str, Any]) -> Table:
    teacher, ledger = about["teacher"], about["ledger"]
    table = Table(show_header=False)
    kind = f"fallback (plain traces): {about['fallback_reason']}" if about["fallback"] else "full extraction"
    rows = {
        "digest": about["digest"],
        "signed by key": about["signer"] or "not verified",
        "kind": kind,
        "teacher": f"{teacher['name']}: {teacher['architecture']}, {teacher['parameters']:,} parameters, "
        f"{teacher['layers']} blocks of width {teacher['width']}",
        "teacher's digest": teacher["digest"],
        "teacher's licence": teacher["licence"] or "not stated",
        "created": f"{about['created']}, seed {about['seed']}",
        "vectors": f"layer {about['embedding']['layer']}, by {about['embedding']['source']}",
        "verbalised share": f"{about['verbalised']:g}",
        "ledger": f"{ledger['labelled_examples']} labelled examples, {ledger['teacher_passes']:,} teacher passes, "
        f"{ledger['teacher_tokens_in_traces']:,} teacher tokens in traces, {ledger['concepts']:,} concepts, "
        f"{ledger['packet_bytes']:,} bytes, {ledger['seconds']:.1f} s",
    }
    for name, value in rows.items():
        table.add_row(name, Text(str(value), overflow="fold"))
    return table


def _fidelity(about: dict[str, Any]) -> Table:
    fidelity, attention = about["fidelity"], about["attention"]
    table = Table("fidelity on fresh prompts", "agreement", "coverage", "prompts", title_justify="left")
    for shape in fidelity["shapes"]:
        values = (percent(shape["agreement"], 2), percent(shape["coverage"], 2), str(shape["n"]))
        table.add_row(Text(shape["template"]), *values)
    table.add_section()
    table.add_row("all", percent(fidelity["agreement"], 2), percent(fidelity["coverage"], 2), "")
    table.add_row("probe accuracy (cross-validated)", percent(fidelity["probe_accuracy"], 2), "", "")
    for name, value in sorted(fidelity["other"].items()):
        table.add_row(Text(name.replace("_", " ")), f"{value:.4g}", "", "")
    counts = ""
    if "causal" in attention:
        counts = f"{attention['causal']} causal, {attention['not_causal']} without effect"
        counts += f", {attention['not_tested']} not tested" if attention["not_tested"] else ""
    share = percent(attention["causal_share"])
    table.add_row(f"attention: causal share of {attention['edges']} edges", share, counts, "")
    return table


def _rule(rule: dict[str, Any], room: int) -> RenderableType:
    """A rule as grids over its two widest arguments, one for each choice of the others; else as a list."""
    title = (
        f"{rule['name']}: {rule['arity']} arguments, {len(rule['rows'])} rows, used at {rule['uses']} places"
    )
    outputs = {tuple(row["arguments"]): _output(row) for row in rule["rows"]}
    if rule["arity"] == 1:
        return _list_table(title, outputs)
    values = [list(dict.fromkeys(key[i] for key in outputs)) for i in range(rule["arity"])]
    down, across = sorted(sorted(range(rule["arity"]), key=lambda i: -len(values[i]))[:2])
    others = [i for i in range(rule["arity"]) if i not in (down, across)]
    slices = [
        (fixed, rows)
        for fixed in product(*(values[i] for i in others))
        if (rows := {k: v for k, v in outputs.items() if tuple(k[i] for i in others) == fixed})
    ]
    if len(slices) > MAX_GRIDS:
        return _list_table(title, outputs)
    parts: list[RenderableType] = [Text(title, style="bold")]
    for fixed, rows in slices:
        about = ", ".join(f"argument {i + 1} = {_shown(v)}" for i, v in zip(others, fixed, strict=True))
        cells = {(k[down], k[across]): v for k, v in rows.items()}
        corner = f"{down + 1} \\ {across + 1}"
        parts.append(_grid(corner, values[down], values[across], cells, about, room))
    return Group(*parts)


def _grid(
    corner: str, down: list[str], across: list[str], cells: dict[tuple[str, str], str], about: str, room: int
) -> Table:
    """Outputs by two arguments; where that is too wide for the console, one line for each value of the first."""
    first = max(len(corner), *(len(_shown(v)) for v in down))
    needed = (
        first + 4 + sum(3 + max(len(_shown(a)), *(len(cells.get((d, a), "·")) for d in down)) for a in across)
    )
    if needed <= room:
        table = Table(corner, *(escape(_shown(v)) for v in across), title=about or None, title_justify="left")
        for d in down:
            table.add_row(Text(_shown(d), style="bold"), *(Text(cells.get((d, a), "·")) for a in across))
        return table
    table = Table(
        corner[0], f"{corner[-1]}: output", title=about or None, title_justify="left", show_lines=True
    )
    for d in down:
        line = "   ".join(f"{_shown(a)}→{cells[d, a]}" for a in across if (d, a) in cells)
        table.add_row(Text(_shown(d), style="bold"), Text(line))
    return table


def _list_table(title: str, outputs: dict[tuple[str, ...], str]) -> RenderableType:
    table = Table("arguments", "output")
    for arguments, output in list(outputs.items())[:MAX_ROWS]:
        table.add_row(Text(" ".join(map(_shown, arguments))), Text(output))
    if len(outputs) > MAX_ROWS:
        table.add_row(f"... {len(outputs) - MAX_ROWS} more", "--json has all")
    return Group(Text(title, style="bold"), table)


def _output(row: dict[str, Any]) -> str:
    if row["output"] is not None:
        return _shown(row["output"])
    return "~" + _shown(row["decoded"]) if row["decoded"] is not None else "~?"


def _template(packet: Packet, index: int) -> Tree:
    template = packet.graph.templates[index]
    units = _prompt_units(packet, index)
    listed = "  ".join(f"{i}:{unit}" for i, unit in enumerate(units))
    tree = Tree(Text(f"{template.template}   {listed}", style="bold"))
    if template.nodes:
        _grow(tree, template, packet.graph, 0, len(units))
    else:
        tree.add("no trace of this template could be explained")
    return tree


def _prompt_units(packet: Packet, index: int) -> list[str]:
    """Units of the prompt; symbols are boxes, as any value may stand there."""
    for split in ("probing", "rehearsal", "evaluation"):
        for prompt in packet.spec.sample(split, 1, seed=0, templates=[index]):
            return ["□" if u.symbol is not None else _shown(u.text) for u in prompt.units]
    return []


def _grow(branch: Tree, template: TemplateGraph, graph: Graph, node: int, unit: int) -> None:
    """One line a step; a chain stays on one level, only forks are indented."""
    while True:
        step = template.nodes[node]
        line = branch.add(Text(f"{unit} <- {_step(step.step, graph)}"))
        children = list(step.children.items())
        if not children:
            return
        if len(children) == 1:
            node, unit = children[0][1], unit + 1
            continue
        for mask, child in children:
            _grow(line.add(Text(f"if {_shown(mask)}", style="italic")), template, graph, child, unit + 1)
        return


def _step(step: Decision, graph: Graph) -> str:
    if step.do == "literal":
        return _shown(step.text)
    if step.do == "copy":
        return f"copy {step.source}"
    if step.do == "rule":
        return f"{graph.rules[step.rule].name}({', '.join(map(str, step.sources))})"
    cases = (
        f"{{{' '.join(_shown(graph.symbols[v]) for v in case.values)}}}: {_step(case.then, graph)}"
        for case in step.cases
    )
    return f"by {step.source}: " + " | ".join(cases)


def _shown(text: str) -> str:
    """Text as it is where that can be seen, quoted where it cannot."""
    return text if text.isprintable() and text == text.strip() and text else repr(text)


def demo_tables(result: DemoResult) -> Iterator[RenderableType]:
    """The demo's result: skills, the ledger of each, and the spoiled packet's rollback."""
    student = result.rows[0].student if result.rows else ""
    table = Table(title=f"student: {escape(student)}, frozen", title_justify="left")
    for heading in (
        "skill",
        "teacher",
        "before",
        "after",
        "retention",
        "gap recovered",
        "held-out shape",
        "verdict",
    ):
        table.add_column(heading)
    for row in result.rows:
        shares = (row.teacher, row.before, row.after, row.retention, row.gap_recovered, row.held_out)
        table.add_row(escape(row.skill), *map(percent, shares), _verdict(row.verdict))
    yield table
    ledger = Table("data ledger", *(escape(row.skill) for row in result.rows), title_justify="left")
    for name in (
        "concepts",
        "packet_bytes",
        "labelled_examples",
        "teacher_passes",
        "teacher_tokens_in_packet",
        "rehearsal_sequences",
        "extract_seconds",
        "ingest_seconds",
    ):
        ledger.add_row(name.replace("_", " "), *(f"{getattr(row, name):,}" for row in result.rows))
    yield ledger
    rollback = result.rollback
    yield Text("a spoiled packet (its vectors are noise)", style="bold")
    spoiled = Table(show_header=False)
    spoiled.add_row("verdict", _verdict(rollback.verdict))
    for reason in rollback.reasons:
        spoiled.add_row("because", Text(reason, overflow="fold"))
    for found in rollback.diagnosis:
        spoiled.add_row("diagnosis", Text(f"{found['name']}. {found['says']}", overflow="fold"))
    spoiled.add_row("adapter before", Text(str(rollback.adapter_digest_before), overflow="fold"))
    spoiled.add_row("adapter now", Text(str(rollback.adapter_digest), overflow="fold"))
    same = "equal: the former adapter is back bit for bit" if result.restored else "[red]they differ[/red]"
    spoiled.add_row("digests", same)
    yield spoiled
    yield Text(f"{result.seconds:.0f} seconds in all")


def _verdict(verdict: str) -> str:
    return f"[green]{verdict}[/green]" if verdict == "accepted" else f"[red]{verdict}, rolled back[/red]"
