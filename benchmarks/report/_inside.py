"""What goes on inside: single steps, L_geo beside accuracy, concept maps, and the packets' graphs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from benchmarks._cells import Result
from benchmarks.report._plots import losses_up, shares_up
from benchmarks.report._runs import Run, headline_runs, mean, missing, places, runs, short
from m2kt.render import (
    READING,
    Block,
    Cell,
    Figure,
    GraphSummary,
    Row,
    Section,
    Table,
    draw_transfer_map,
    drawing,
    graph_blocks,
    inline_svg,
    series,
    share_cell,
)

_STEPS = {
    "selected": "the reader's selector names the rule",
    "gathered": "its heads look at the rule's arguments",
    "retrieved": "the right row has the most weight",
    "written": "the reader is not silent",
    "readable": "the row's vector says a symbol clearly",
    "read_out": "the student writes that symbol",
    "latent": "the same on rows that travel as vectors only",
    "verbalised": "the same on rows whose output travels in words",
    "chains": "traces whose rule steps are all right",
    "structure": "traces whose copies and literals are all right",
    "procedure": "traces in which the reader chooses rightly for those",
    "concepts_seen": "share of the packet's rows that were asked",
}
_TERMS = ("geo", "struct", "reason")


def steps(results: Sequence[Result]) -> Section:
    """Single rule steps by stage, and what was recognised where the skill was not reached."""
    title = "Single steps"
    of = {p: [r for r in group if r.measured.steps] for p, group in places(headline_runs(results)).items()}
    of = {place: group for place, group in of.items() if group}
    if not of:
        return Section(title, [missing("m2kt")])
    known = {name for group in of.values() for r in group for name in r.measured.steps or {}}
    names = [name for name in _STEPS if name in known]
    rows: list[list[Cell | str]] = []
    for (student, skill), group in of.items():
        shares = [mean((r.measured.steps or {}).get(name) for r in group) for name in names]
        rows.append([short(student), skill, *map(share_cell, shares)])
    head = ["student", "skill", *(name.replace("_", " ") for name in names)]
    legend: list[list[Cell | str]] = [[name.replace("_", " "), _STEPS[name]] for name in names]
    lead = (
        "Each rule step behind the packet's own prefix, so that slips do not add up. Where a stage fails, those after "
        "it cannot be right."
    )
    blocks: list[Block] = [
        Table(head, rows, note="Mean over seeds."),
        Table(["", ""], legend, title="What the stages are", folded=True),
    ]
    found: list[list[Cell | str]] = [
        [run.cell.title, Cell(d["name"], tone="bad"), d["says"]]
        for run in headline_runs(results)
        for d in run.measured.diagnosis
    ]
    if found:
        blocks.append(Table(["cell", "diagnosis", ""], found, title="Where the skill was not reached"))
    return Section(title, blocks, lead)


def losses(results: Sequence[Result]) -> Section:
    """L_geo and accuracy over updates: does little divergence of concepts go with the skill?"""
    title = "L_geo and accuracy"
    mine = [*runs(results, "seed1"), *headline_runs(results)]
    mine = [r for r in mine if any("geo" in entry for entry in r.measured.history)]
    pictures: list[Table | Figure] = []
    for (student, skill), group in places(mine).items():
        # the run whose accuracy was followed on the way, where there is one
        run = max(group, key=lambda r: len(_accuracies(r)))
        pictures.append(
            Figure(partial(_losses_picture, run), title=f"{skill}, {short(student)}, seed {run.cell.seed}")
        )
    if not pictures:
        return Section(title, [missing("seed1")])
    lead = (
        "Terms of the loss over updates, and below them accuracy where it was followed on the way. L_geo is how far "
        "the images of concepts are from the student's own states."
    )
    return Section(title, [Row(pictures)], lead)


def _updates(run: Run) -> list[float]:
    return [entry.get("update", float(i + 1)) for i, entry in enumerate(run.measured.history)]


def _accuracies(run: Run) -> list[tuple[float, float]]:
    """(update, accuracy) on the way, from the history, or from the curve with its sequences shared out over updates."""
    pairs = zip(_updates(run), run.measured.history, strict=True)
    found = [(x, entry["accuracy"]) for x, entry in pairs if "accuracy" in entry]
    total = run.measured.curve[-1].sequences if run.measured.curve else 0
    if found or not total:
        return found
    last = _updates(run)[-1]
    return [(last * p.sequences / total, p.accuracy) for p in run.measured.curve]


def _losses_picture(run: Run) -> str:
    x, history, accuracy = _updates(run), run.measured.history, _accuracies(run)
    with drawing(360, 380 if accuracy else 230) as figure:
        panels = figure.subplots(2 if accuracy else 1, 1, squeeze=False, sharex=True)[:, 0]
        for i, term in enumerate(_TERMS):
            points = [
                (at, entry[term]) for at, entry in zip(x, history, strict=True) if entry.get(term, 0) > 0
            ]
            if points:
                strength = 1.0 if term == "geo" else 0.5
                panels[0].plot(*zip(*points, strict=True), color=series(i), label=f"L_{term}", alpha=strength)
        losses_up(panels[0])
        panels[0].legend(loc="best")
        if accuracy:
            panels[1].plot(
                *zip(*accuracy, strict=True), "o-", color=series(3), markersize=4, label="accuracy"
            )
            panels[1].legend(loc="lower right")
            shares_up(panels[1])
        panels[-1].set_xlabel("updates")
        return inline_svg(figure, "losses and accuracy over updates")


def maps(results: Sequence[Result]) -> Section:
    """The teacher's concepts, and where they land in the student."""
    title = "Concept maps"
    blocks: list[Block] = []
    for (student, skill), group in places(headline_runs(results)).items():
        drawn = next((r.measured.map for r in group if r.measured.map is not None), None)
        if drawn is not None:
            blocks.append(Figure(partial(draw_transfer_map, drawn), title=f"{skill}, {short(student)}"))
    if not blocks:
        return Section(title, [missing("m2kt")])
    lead = (
        "Principal directions. Colours are what a concept writes: images should fall among the student's own states of "
        "the same colour."
    )
    return Section(title, blocks, lead)


def graphs(results: Sequence[Result]) -> Section:
    """One packet's graph for each skill."""
    title = "Abstraction graphs"
    drawn: dict[str, GraphSummary] = {}
    for run in headline_runs(results):
        if run.measured.graph is not None and run.cell.skill not in drawn:
            drawn[run.cell.skill] = GraphSummary.model_validate(run.measured.graph)
    if not drawn:
        return Section(title, [missing("m2kt")])
    blocks: list[Block] = [block for skill in sorted(drawn) for block in graph_blocks(drawn[skill], of=skill)]
    return Section(title, blocks, READING)
