"""What carries the skill: controls, loss terms, and choices of the design."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd

from benchmarks._cells import Result
from benchmarks.report._frame import (
    DASH,
    PAIR,
    measured,
    missing,
    options_text,
    results_frame,
    short,
    spread_cell,
    spread_text,
    table,
)
from benchmarks.report._plots import legend_right, shares_across
from m2kt.render import (
    Block,
    Cell,
    Figure,
    Row,
    Section,
    Table,
    drawing,
    inline_svg,
    percent,
    series,
    share_cell,
)

ABOUT = {
    "m2kt": "the packet as it is",
    "none": "no packet: the frozen student",
    "shuffled": "each rule's outputs shuffled: should follow the shuffle, not the truth",
    "random": "noise for the vectors",
    "wrong": "another skill's packet",
    "text_lora": "LoRA of the same size on the packet's text (v = 1: with the rules' outputs), no reader, no vectors",
    "traces_only": "L_reason alone, without L_geo and L_struct",
    "without": "one loss term off",
    "flat": "flat reader: one key for each concept",
    "counterfactual": "a teacher retrained on altered rules: should follow that teacher",
}
"""Experiments in the order in which they are shown."""
_NOTE = (
    "Range over seeds in brackets. Follows: answers equal to the altered packet's rollout, or to the altered teacher's "
    "where it contradicts the original."
)
_OF_THE_SKILL = ("of", "original")  # options that name another skill: no variants of the experiment


def controls(results: Sequence[Result]) -> Section:
    """Every experiment against the truth, by skill, for each student."""
    title = "Controls and ablations"
    frame = results_frame(results)
    frame = frame[frame["arm"].isin(list(ABOUT)) & ((frame["arm"] != "m2kt") | frame["headline"].astype(bool))]
    others = frame[frame["arm"] != "m2kt"]
    if others.empty:
        return Section(title, [missing(*(name for name in ABOUT if name != "m2kt"))])
    frame = frame.assign(order=frame["arm"].map(list(ABOUT).index), variant=[_variant(o) for o in frame["options"]])
    blocks: list[Block] = []
    for student, group in others.groupby("student"):
        skills = sorted(group["skill"].unique())
        runs = frame[(frame["student"] == student) & frame["skill"].isin(skills)]
        # rows also for experiments that were measured on none of these skills
        named = frame[frame["student"] == student].groupby(["order", "arm", "variant"])
        cells = runs.groupby(["order", "arm", "variant", "skill"])[list(runs.columns)].apply(_cell).unstack()
        cells = cells.reindex(index=list(named.groups), columns=skills)
        cells = cells.astype(object).where(cells.notna(), DASH)
        cells[""] = [Cell(ABOUT[name], tone="quiet") for _, name, _ in cells.index]
        cells.insert(0, "experiment", [_name(name, variant) for _, name, variant in cells.index])
        blocks.append(Figure(partial(_picture, runs, list(cells.index), skills), title=f"{short(student)}, frozen"))
        blocks.append(table(cells, note=_NOTE))
    return Section(title, blocks, "Accuracy against the truth when something is taken away or spoiled.")


def _variant(options: dict[str, Any]) -> str:
    options = {k: v for k, v in options.items() if v and k not in _OF_THE_SKILL}
    return f"L_{options['loss']}" if options.keys() == {"loss"} else options_text(options)


def _name(experiment: str, variant: str) -> str:
    return experiment.replace("_", " ") + (f" {variant}" if variant else "")


def _cell(runs: pd.DataFrame) -> Cell:
    """Accuracy over seeds; the status where nothing was measured."""
    accuracy = runs["after"].where(runs["status"] == "done")
    if not accuracy.count():
        return Cell(str(runs["status"].iloc[0]), tone="quiet")
    followed = pd.Series(
        [m.extra.get("agreement_where_wrong", m.followed) for m in runs["measured"].dropna()], dtype=float
    )
    text = spread_text(accuracy) + (f"; follows {percent(followed.mean())}" if followed.count() else "")
    return share_cell(accuracy.mean(), text)


def _picture(runs: pd.DataFrame, order: list[tuple[int, str, str]], skills: list[str]) -> str:
    with drawing(900, 60 + 25 * len(order)) as figure:
        axes = figure.subplots()
        gap = 0.5 / max(1, len(skills))
        for i, skill in enumerate(skills):
            stats = runs[runs["skill"] == skill].groupby(["order", "arm", "variant"])["after"]
            stats = stats.agg(["mean", "min", "max"]).dropna()
            label: str | None = skill
            for key, accuracy in stats.iterrows():
                y = order.index(key) + gap * (i - (len(skills) - 1) / 2)
                axes.plot([accuracy["min"], accuracy["max"]], [y, y], color=series(i), linewidth=2, alpha=0.6)
                axes.plot(accuracy["mean"], y, "o", markersize=7, color=series(i), label=label)
                label = None
        names = [_name(name, variant) for _, name, variant in order]
        axes.set(yticks=range(len(order)), yticklabels=names, ylim=(len(order) - 0.4, -0.6))
        axes.grid(False, axis="y")
        shares_across(axes)
        legend_right(axes)
        return inline_svg(figure, "accuracy of controls and ablations")


def dials(results: Sequence[Result]) -> Section:
    """Experiment ``dial``: one choice of the design changed."""
    title = "Choices of the design"
    runs = measured(results_frame(results), "dial")
    if runs.empty:
        return Section(title, [missing("dial")])
    changed = [{k: v for k, v in o.items() if v is not None and k != "updates"} for o in runs["options"]]
    runs = runs.assign(
        choice=[" and ".join(sorted(options)) for options in changed],
        setting=[str(*o.values()) if len(o) == 1 else options_text(o) for o in changed],
    )
    tables: list[Table | Figure] = []
    for choice, group in runs.groupby("choice"):
        settings = sorted(group["setting"].unique(), key=_numbers_first)
        cells = group.groupby([*PAIR, "setting"])["after"].apply(spread_cell).unstack()[settings]
        tables.append(table(cells.reset_index(), title=str(choice).replace("_", " ")))
    return Section(title, [Row(tables)], "Accuracy with one choice of the design changed.")


def _numbers_first(setting: str) -> tuple[bool, float, str]:
    number = setting.removeprefix("-").replace(".", "", 1).isdigit()
    return not number, float(setting) if number else 0.0, setting
