"""What carries the skill: controls, loss terms, and the dials of the design."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks._cells import Result
from benchmarks.report._plots import legend_right, shares_across
from benchmarks.report._runs import (
    Run,
    grouped,
    is_headline,
    missing,
    options_text,
    places,
    runs,
    short,
    spread,
)
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
    "traces_only": "L_reason alone, neither the concepts' geometry nor the graph's edges",
    "without": "one loss term off",
    "flat": "flat reader: one key for each concept",
    "counterfactual": "a teacher retrained on altered rules: should say what that teacher says",
}
"""Arms in the order in which they are shown."""


def controls(results: Sequence[Result]) -> Section:
    """Every arm against the truth, by skill, for each student."""
    title = "Controls and ablations"
    mine = [r for r in results if r.cell.arm in ABOUT and r.cell.arm != "m2kt"]
    if not mine:
        return Section(title, [missing(*(arm for arm in ABOUT if arm != "m2kt"))])
    blocks: list[Block] = []
    for student, group in sorted(grouped(mine, lambda r: r.cell.student).items()):
        skills = sorted({r.cell.skill for r in group})
        ours = [r for r in results if is_headline(r.cell) and r.cell.student == student]
        by_arm = grouped([*ours, *group], lambda r: (r.cell.arm, _variant(r)))
        order = sorted(by_arm, key=lambda key: (list(ABOUT).index(key[0]), key[1]))
        rows: list[list[Cell | str]] = []
        for arm, variant in order:
            cells = [_cell([r for r in by_arm[arm, variant] if r.cell.skill == s]) for s in skills]
            rows.append([_name(arm, variant), *cells, Cell(ABOUT[arm], tone="quiet")])
        title_ = f"{short(student)}, frozen"
        blocks.append(Figure(partial(_picture, by_arm, order, skills), title=title_))
        blocks.append(Table(["arm", *skills, ""], rows, note=_NOTE))
    return Section(title, blocks, "Accuracy against the truth when something is taken away or spoiled.")


_NOTE = (
    "Range over seeds in brackets. Follows: answers equal to the altered packet's own roll-out, or to the altered "
    "teacher's where it contradicts the original."
)
_OF_THE_SKILL = (
    "of",
    "original",
)  # options that name another skill's packet or truth: no variants of the arm


def _variant(result: Result) -> str:
    options: dict[str, Any] = {k: v for k, v in result.cell.options.items() if v and k not in _OF_THE_SKILL}
    return f"L_{options['loss']}" if options.keys() == {"loss"} else options_text(options)


def _name(arm: str, variant: str) -> str:
    return arm.replace("_", " ") + (f" {variant}" if variant else "")


def _cell(group: list[Result]) -> Cell:
    """Accuracy over seeds; where nothing was measured, what happened instead."""
    measured = [r.measured for r in group if r.measured is not None and r.status == "done"]
    found = spread(m.after for m in measured)
    if found is None:
        return Cell(group[0].status if group else "–", tone="quiet")
    followed = spread(
        m.extra.get("agreement_where_wrong", m.followed) for r in group if (m := r.measured) is not None
    )
    text = found.text() + (f"; follows {percent(followed.mean)}" if followed else "")
    return share_cell(found.mean, text)


def _picture(
    by_arm: dict[tuple[str, str], list[Result]], order: list[tuple[str, str]], skills: list[str]
) -> str:
    with drawing(900, 60 + 25 * len(order)) as figure:
        axes = figure.subplots()
        gap = 0.5 / max(1, len(skills))
        for i, skill in enumerate(skills):
            label: str | None = skill
            for y, key in enumerate(order):
                mine = [r.measured for r in by_arm[key] if r.cell.skill == skill and r.measured]
                if (found := spread(m.after for m in mine)) is None:
                    continue
                at = y + gap * (i - (len(skills) - 1) / 2)
                axes.plot([found.low, found.high], [at, at], color=series(i), linewidth=2, alpha=0.6)
                axes.plot(found.mean, at, "o", markersize=7, color=series(i), label=label)
                label = None
        names = [_name(*key) for key in order]
        axes.set(yticks=range(len(order)), yticklabels=names, ylim=(len(order) - 0.4, -0.6))
        axes.grid(False, axis="y")
        shares_across(axes)
        legend_right(axes)
        return inline_svg(figure, "accuracy of controls and ablations")


def dials(results: Sequence[Result]) -> Section:
    """Arm ``dial``: one setting of the design changed."""
    title = "Dials of the design"
    mine = runs(results, "dial")
    if not mine:
        return Section(title, [missing("dial")])
    tables: list[Table | Figure] = []
    for dial, group in sorted(grouped(mine, _dial).items()):
        settings = sorted({_setting(r, dial) for r in group}, key=_numbers_first)
        rows: list[list[Cell | str]] = []
        for (student, skill), of in places(group).items():
            row: list[Cell | str] = [short(student), skill]
            for setting in settings:
                found = spread(r.measured.after for r in of if _setting(r, dial) == setting)
                row.append(Cell("–", tone="quiet") if found is None else share_cell(found.mean, found.text()))
            rows.append(row)
        tables.append(Table(["student", "skill", *settings], rows, title=dial.replace("_", " ")))
    return Section(title, [Row(tables)], "Accuracy with one choice of the design made otherwise.")


def _dial(run: Run) -> str:
    return " and ".join(sorted(_turned(run)))


def _turned(run: Run) -> dict[str, Any]:
    return {k: v for k, v in run.cell.options.items() if v is not None and k != "updates"}


def _setting(run: Run, dial: str) -> str:
    options = _turned(run)
    return str(options[dial]) if dial in options else options_text(options)


def _numbers_first(setting: str) -> tuple[bool, float, str]:
    number = setting.removeprefix("-").replace(".", "", 1).isdigit()
    return not number, float(setting) if number else 0.0, setting
