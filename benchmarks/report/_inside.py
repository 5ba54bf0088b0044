"""Inside the student: single steps, L_geo beside accuracy, concept maps, and the packets' graphs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from benchmarks._cells import Measured, Result
from benchmarks.report._frame import (
    headline_runs,
    measured,
    missing,
    none_if_nan,
    pairs,
    results_frame,
    select,
    short,
    table,
)
from benchmarks.report._plots import losses_up, shares_up
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
    "gathered": "its argument heads attend to the rule's arguments",
    "retrieved": "the right row has the most weight",
    "written": "the reader is not gated",
    "readable": "the row's vector decodes with margin",
    "read_out": "the student writes that symbol",
    "latent": "the same on rows that travel as vectors only",
    "verbalised": "the same on rows whose output travels as text",
    "chains": "traces whose rule steps are all right",
    "structure": "traces whose copies and literals are all right",
    "procedure": "traces in which the selector is right at all copies and literals",
    "concepts_seen": "share of the packet's rows that the prompts used",
}
_TERMS = ("geo", "struct", "reason")


def steps(results: Sequence[Result]) -> Section:
    """Single rule steps by stage, and the diagnoses of weak transfers."""
    title = "Single steps"
    runs = headline_runs(results_frame(results))
    shares = pd.DataFrame([m.steps or {} for m in runs["measured"]], index=runs.index)
    if shares.empty:
        return Section(title, [missing("m2kt")])
    names = [name for name in _STEPS if name in shares]
    stages = {name: name.replace("_", " ") for name in names}
    by_pair = shares[names].dropna(how="all").groupby([runs["student"], runs["skill"]])
    cells = by_pair.mean().map(lambda share: share_cell(none_if_nan(share))).rename(columns=stages)
    lead = (
        "Each rule step after the packet's own prefix, so that errors do not add up. Where a stage fails, those after "
        "it cannot be right."
    )
    blocks: list[Block] = [
        table(cells.reset_index(), note="Mean over seeds."),
        Table(["", ""], [[stages[n], _STEPS[n]] for n in names], title="What the stages are", folded=True),
    ]
    diagnoses: list[list[Cell | str]] = [
        [cell, Cell(d["name"], tone="bad"), d["says"]]
        for cell, m in zip(runs["title"], runs["measured"], strict=True)
        for d in m.diagnosis
    ]
    if diagnoses:
        blocks.append(Table(["cell", "diagnosis", ""], diagnoses, title="Where the skill was not reached"))
    return Section(title, blocks, lead)


def losses(results: Sequence[Result]) -> Section:
    """L_geo and accuracy over updates: do concepts that are near their targets go with the skill?"""
    title = "L_geo and accuracy"
    frame = results_frame(results)
    runs = pd.concat([measured(frame, "seed1"), headline_runs(frame)])
    runs = select(runs, [any("geo" in entry for entry in m.history) for m in runs["measured"]])
    figures: list[Table | Figure] = []
    for (student, skill), group in pairs(runs):
        # the run with the most points of accuracy, where there is one
        run = group.iloc[max(range(len(group)), key=lambda i: len(_accuracies(group["measured"].iloc[i])))]
        name = f"{skill}, {short(student)}, seed {run['seed']}"
        figures.append(Figure(partial(_losses_picture, run["measured"]), title=name))
    if not figures:
        return Section(title, [missing("seed1")])
    lead = (
        "Terms of the loss over updates, and below them accuracy where there is a learning curve. L_geo is the "
        "distance of the images of concepts from the student targets."
    )
    return Section(title, [Row(figures)], lead)


def _updates(m: Measured) -> list[float]:
    return [entry.get("update", float(i + 1)) for i, entry in enumerate(m.history)]


def _accuracies(m: Measured) -> list[tuple[float, float]]:
    """(update, accuracy) from the history, or from the learning curve with its sequences spread over the updates."""
    pairs_ = zip(_updates(m), m.history, strict=True)
    points = [(x, entry["accuracy"]) for x, entry in pairs_ if "accuracy" in entry]
    total = m.curve[-1].sequences if m.curve else 0
    if points or not total:
        return points
    last = _updates(m)[-1]
    return [(last * p.sequences / total, p.accuracy) for p in m.curve]


def _losses_picture(m: Measured) -> str:
    history, accuracy = pd.DataFrame(m.history, index=_updates(m)), _accuracies(m)
    with drawing(360, 380 if accuracy else 230) as figure:
        panels = figure.subplots(2 if accuracy else 1, 1, squeeze=False, sharex=True)[:, 0]
        for term in (name for name in _TERMS if name in history):
            loss = history[term][history[term] > 0]
            if len(loss):
                alpha = 1.0 if term == "geo" else 0.5
                colour = series(_TERMS.index(term))
                panels[0].plot(loss.index, loss, color=colour, label=f"L_{term}", alpha=alpha)
        losses_up(panels[0])
        panels[0].legend(loc="best")
        if accuracy:
            x, y = zip(*accuracy, strict=True)
            panels[1].plot(x, y, "o-", color=series(3), markersize=4, label="accuracy")
            panels[1].legend(loc="lower right")
            shares_up(panels[1])
        panels[-1].set_xlabel("updates")
        return inline_svg(figure, "losses and accuracy over updates")


def maps(results: Sequence[Result]) -> Section:
    """The teacher's concepts, and their images in the student."""
    title = "Concept maps"
    blocks: list[Block] = []
    for (student, skill), group in pairs(headline_runs(results_frame(results))):
        drawn = next((m.map for m in group["measured"] if m.map is not None), None)
        if drawn is not None:
            blocks.append(Figure(partial(draw_transfer_map, drawn), title=f"{skill}, {short(student)}"))
    if not blocks:
        return Section(title, [missing("m2kt")])
    lead = (
        "Principal directions. Colours are the symbols that concepts write: images should lie among the student "
        "targets of the same colour."
    )
    return Section(title, blocks, lead)


def graphs(results: Sequence[Result]) -> Section:
    """The graph of one packet for each skill."""
    title = "Abstraction graphs"
    drawn: dict[str, GraphSummary] = {}
    runs = headline_runs(results_frame(results))
    for skill, m in zip(runs["skill"], runs["measured"], strict=True):
        if m.graph is not None and skill not in drawn:
            drawn[skill] = GraphSummary.model_validate(m.graph)
    if not drawn:
        return Section(title, [missing("m2kt")])
    blocks: list[Block] = [block for skill in sorted(drawn) for block in graph_blocks(drawn[skill], of=skill)]
    return Section(title, blocks, READING)
