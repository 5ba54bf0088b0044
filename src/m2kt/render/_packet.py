"""A packet as a page: ``m2kt inspect PACKET --html FILE``."""

from __future__ import annotations

from functools import partial

from m2kt.packet import (
    Fidelity,
    Ledger,
    Packet,
    PacketDescription,
    RowDescription,
    RuleDescription,
    describe,
)
from m2kt.render._attention import attention_blocks
from m2kt.render._blocks import (
    Block,
    Cell,
    Figure,
    Note,
    Row,
    Section,
    Table,
    Tile,
    Tiles,
    percent,
    share_cell,
)
from m2kt.render._graph import GraphSummary, draw_template, summarise_graph
from m2kt.render._map import draw_packet_map
from m2kt.render._merged import merged_blocks
from m2kt.render._page import page
from m2kt.render._states import draw_states
from m2kt.render._text import (
    LEGEND,
    MAX_ROWS,
    output_text,
    rule_grids,
    rule_title,
    shown,
)
from m2kt.render._theme import symbol_colours

CHART = (
    "Boxes are states, named by the units written last; □ is any symbol. A state says what is written next, and where "
    "it looks. Arrows lead to the states that may follow, dashed ones back; on them is what was written. A thick frame "
    "marks a state that may end the answer."
)
READING = (
    "Boxes are symbols, plain text is structure; the number below is the unit's. Arcs above: arguments of rules. Arcs "
    "below: copies, and dotted guards. Thicker: more attention of the teacher; dashed: attention without effect when "
    "ablated; faint: not tested. Point at an arc for its numbers."
)


def packet_page(packet: Packet) -> str:
    """A self-contained HTML file."""
    about = describe(packet)
    sections = [
        Section("At a glance", _key_numbers(about)),
        Section("Card", [_card(about)]),
        Section("Fidelity", [fidelity_table(about.fidelity)], "Measured on prompts never used for extraction."),
        *([Section("Merged from", merged_blocks(about.merged))] if about.merged else []),
        Section("Rules", rule_blocks(about)),
        Section("Concept map", map_blocks(packet)),
        Section("Program", program_blocks(packet), CHART),
        Section("Traces", graph_blocks(summarise_graph(packet)), READING),
        Section("Attention along edges", attention_blocks(packet)),
        Section(
            "Data ledger",
            [ledger_table(about.ledger)],
            "What the extraction used.",
        ),
        Section("Signature", _signature(about)),
    ]
    teacher = about.teacher.name
    return page(f"Packet {about.name}", sections, subtitle=f"a skill of {teacher}", foot=about.digest)


def program_blocks(packet: Packet) -> list[Block]:
    """The state chart, if there is a state."""
    program = packet.program
    if not program.states:
        return [Note("No step could be explained.")]
    symbols: dict[int, list[str]] = {}
    for symbol, number in zip(program.symbols, program.classes, strict=True):
        symbols.setdefault(number, []).append(shown(symbol))
    classes = "; ".join(f"□{number}: {' '.join(listed[:40])}" for number, listed in sorted(symbols.items()))
    caption = f"{_count(len(program.states), 'state')}, {_count(program.n_leaves, 'leaf').replace('leafs', 'leaves')}"
    return [Figure(partial(draw_states, program), f"{caption}. {classes if len(symbols) > 1 else ''}".strip())]


def graph_blocks(graph: GraphSummary, of: str = "") -> list[Block]:
    """A picture per template, with its share of the traces; titles begin with ``of``."""
    blocks: list[Block] = []
    for template in graph.templates:
        size = f"{_count(template.skeletons, 'skeleton')}, {_count(template.nodes, 'state')}"
        if not template.units:
            blocks.append(Note(f"{template.template}: {size}; no rollout was complete."))
            continue
        title, caption = f"{of}  {template.template}".strip(), size
        if template.skeletons > 1:
            caption += f"; the picture shows the most frequent one ({percent(template.share, 0)} of fresh prompts)"
        blocks.append(Figure(partial(draw_template, template, graph.rules), caption, title))
    return blocks


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def _key_numbers(about: PacketDescription) -> list[Block]:
    fidelity, ledger = about.fidelity, about.ledger
    rules = _count(len(about.rules), "rule")
    blocks: list[Block] = [
        Tiles(
            [
                Tile("concepts", f"{ledger.concepts:,}", f"rows of {rules}"),
                Tile("program = teacher", percent(fidelity.agreement), "on fresh prompts"),
                Tile("covered", percent(fidelity.coverage), "rolled out to the end"),
                Tile("causal edges", percent(about.attention.causal_share), "change the step when ablated"),
                Tile("as text", percent(about.verbalised, 0), "of the rows' outputs (v)"),
                Tile("size", f"{ledger.packet_bytes / 1000:,.0f} kB", "of all signed parts"),
            ]
        )
    ]
    if about.fallback:
        reason = about.fallback_reason or "no reason given"
        blocks.insert(0, Note(f"Fallback to plain traces, not a full extraction: {reason}", tone="bad"))
    return blocks + [Note(note) for note in (*about.notes, *about.unseen)]


def _card(about: PacketDescription) -> Table:
    teacher, embedding = about.teacher, about.embedding
    libraries = ", ".join(f"{name} {version}" for name, version in about.libraries.items())
    rows = {
        "teacher": f"{teacher.name}: {teacher.architecture}, {teacher.parameters:,} parameters, "
        f"{teacher.layers} blocks of width {teacher.width}",
        "licence": teacher.licence or "not stated",
        "teacher's digest": teacher.digest,
        "vectors": f"layer {embedding.layer}, by {embedding.source}",
        "symbols": " ".join(map(shown, about.symbols)),
        "stop": shown(about.stop),
        "created": f"{about.created}, seed {about.seed}",
        "libraries": libraries,
    }
    return _pairs(rows)


def _pairs(rows: dict[str, str]) -> Table:
    return Table(["", ""], [[name, value] for name, value in rows.items()])


def fidelity_table(fidelity: Fidelity) -> Table:
    """A manifest's fidelity, by shape."""
    rows: list[list[Cell | str]] = [
        [s.template, share_cell(s.agreement), share_cell(s.coverage), f"{s.n:,}"] for s in fidelity.shapes
    ]
    for size in fidelity.sizes:
        said = share_cell(size.agreed / size.asked) if size.asked else "not asked"
        rows.append([f"{size.template} (not probed)", said, share_cell(size.coverage), f"{size.asked:,}"])
    rows.append(["all", share_cell(fidelity.agreement), share_cell(fidelity.coverage), ""])
    probe = percent(fidelity.probe_accuracy)
    other = "".join(f"; {name.replace('_', ' ')} {value:.4g}" for name, value in fidelity.other.items())
    return Table(
        ["shape", "program = teacher", "covered", "prompts"],
        rows,
        note=f"Cross-validated probe that predicts a step from the teacher's state: {probe}{other}.",
    )


def rule_blocks(about: PacketDescription) -> list[Block]:
    """Outputs of each rule, as grids or lists, from :func:`m2kt.packet.describe`."""
    if not about.rules:
        return [Note("No rules.")]
    colours = dict(zip(about.symbols, symbol_colours(len(about.symbols)), strict=True))
    return [*(_rule(rule, colours) for rule in about.rules), Note(LEGEND)]


def _rule(rule: RuleDescription, colours: dict[str, str]) -> Row:
    def cell(row: RowDescription | None) -> Cell:
        if row is None:
            return Cell("·", tone="quiet")
        symbol = row.output if row.output is not None else row.decoded
        return Cell(output_text(row), tint=None if symbol is None else colours.get(symbol))

    grids: list[Table | Figure] = []
    for grid in rule_grids(rule):
        rows: list[list[Cell | str]] = [
            [shown(d), *(cell(grid.cells.get((d, a))) for a in grid.across)] for d in grid.down
        ]
        grids.append(Table([grid.corner, *map(shown, grid.across)], rows, title=_titled(rule, grid.fixed), mosaic=True))
    if grids:
        return Row(grids)
    listed: list[list[Cell | str]] = [[" ".join(map(shown, row.arguments)), cell(row)] for row in rule.rows[:MAX_ROWS]]
    more = len(rule.rows) - MAX_ROWS
    note = f"{more} more rows: m2kt inspect PACKET --json has all" if more > 0 else ""
    return Row([Table(["arguments", "output"], listed, title=rule_title(rule), note=note, mosaic=True)])


def _titled(rule: RuleDescription, fixed: str) -> str:
    return f"{rule.name}, {fixed}" if fixed else rule_title(rule)


def map_blocks(packet: Packet) -> list[Block]:
    """Concepts in two dimensions, if there are at least two."""
    if packet.n_concepts < 2:
        return [Note("Too few concepts for a map.")]
    caption = (
        "Each dot is a concept: the teacher's mean state before it writes a row's output. Crosses are the symbols' "
        "prototypes, mean states before the symbol is copied."
    )
    return [Figure(partial(draw_packet_map, packet), caption)]


def ledger_table(ledger: Ledger) -> Table:
    """The ledger of a manifest."""
    return _pairs(
        {
            "labelled examples": f"{ledger.labelled_examples:,}",
            "teacher passes": f"{ledger.teacher_passes:,}",
            "teacher tokens that travel in traces": f"{ledger.teacher_tokens_in_traces:,}",
            "concepts": f"{ledger.concepts:,}",
            "bytes": f"{ledger.packet_bytes:,}",
            "seconds": f"{ledger.seconds:.1f}",
        }
    )


def _signature(about: PacketDescription) -> list[Block]:
    signer = about.signer
    state = "Verified: every part is as its signer left it." if signer else "Not verified."
    rows = {"digest": about.digest, "signed by key": signer or "not verified"}
    return [
        _pairs(rows),
        Note(f"{state} A signature names who made the packet; whether to trust them is your policy."),
    ]
