"""What arrived: the headline's tiles and table, its picture, and accuracy by the verbalised share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from benchmarks._cells import Result
from benchmarks.report._frame import (
    PAIR,
    headline_runs,
    measured,
    missing,
    none_if_nan,
    pairs,
    results_frame,
    share_text,
    short,
    spread_cell,
    table,
)
from benchmarks.report._numbers import Headline, average, compute, headline, reduction
from benchmarks.report._plots import legend_right, line, shares_across, shares_up
from m2kt.render import (
    INK,
    LINE,
    MUTED,
    Block,
    Cell,
    Figure,
    Note,
    Section,
    Tile,
    Tiles,
    drawing,
    inline_svg,
    percent,
    series,
    share_cell,
)

_COLUMNS = {
    "teacher": "teacher",
    "before": "before",
    "after": "after",
    "retention": "retention",
    "gap_recovered": "gap recovered",
    "agreement": "agreement",
    "single_steps": "single steps",
    "held_out": "longer shapes",
}


def tiles(results: Sequence[Result]) -> Section:
    """The headline as tiles."""
    numbers, frame = headline(results), results_frame(results)
    of = [pair for pair, _ in pairs(headline_runs(frame))]
    tokens = average(r.shares.get("tokens") for pair in of if (r := reduction(frame, *pair)))
    ratio = average(c.ratio for pair in of if (c := compute(frame, *pair)))
    lost = int((frame["headline"].astype(bool) & (frame["status"] != "done")).sum())
    blocks: list[Block] = [
        Tiles(
            [
                Tile("retention", percent(numbers.mean_retention), "of the teacher's accuracy, mean"),
                Tile("gap recovered", percent(numbers.mean_gap_recovered), _worst(numbers)),
                Tile("single steps", percent(numbers.latent_only), "on rows that were never verbalised"),
                Tile(
                    "less teacher text",
                    "–" if tokens is None else tokens.text(percent(tokens.value)),
                    "in tokens, than distillation needs for the same accuracy",
                ),
                Tile(
                    "compute",
                    "–" if ratio is None else ratio.text(f"{ratio.value:.2g} ×"),
                    "less than distillation, to 95 % of the gap",
                ),
                Tile("measured", f"{numbers.skills} × {numbers.seeds}", "skills × seeds"),
            ]
        )
    ]
    if lost:
        blocks.append(
            Note(
                f"Refused or failed cells of the headline experiment: {lost}; the means leave them out.",
                "bad",
            )
        )
    return Section(
        "Headline",
        blocks,
        "A frozen student before and after it ingests a packet; no output of a rule is verbalised.",
    )


def _worst(numbers: Headline) -> str:
    worst = numbers.worst_gap_recovered
    return "mean" if worst is None else f"mean; worst {percent(worst)}"


def transfers(results: Sequence[Result]) -> Section:
    """Skill by seed, a table for each student, with mean and range."""
    runs = headline_runs(results_frame(results))
    if runs.empty:
        return Section("Transfers", [missing("m2kt")])
    caption = "Ring: the frozen student. Dots: after, one for each seed. Bar: the teacher."
    blocks: list[Block] = [Figure(partial(_picture, runs), caption)]
    blocks += [
        table(_with_means(group.sort_values(["skill", "seed"], kind="stable")), title=f"{short(name)}, frozen")
        for name, group in runs.groupby("student")
    ]
    note = (
        "Brackets: Wilson 95 % interval over the prompts. Mean: over skills of the seeds' mean. Longer shapes were "
        "never probed or rehearsed."
    )
    return Section("Transfers", [*blocks, Note(note)])


def _with_means(runs: pd.DataFrame) -> pd.DataFrame:
    """The cells of one student; the mean over skills of the seeds' means; and the range over all cells."""
    shares = runs[list(_COLUMNS)]
    cells = shares.map(lambda share: Cell(share_text(share)))
    cells["gap_recovered"] = shares["gap_recovered"].map(lambda share: share_cell(none_if_nan(share)))
    cells["after"] = [
        share_cell(after, percent(after) + ("" if pd.isna(low) else f" [{100 * low:.1f}, {100 * high:.1f}]"))
        for after, low, high in zip(runs["after"], runs["low"], runs["high"], strict=True)
    ]
    cells.insert(0, "skill", runs["skill"].astype(object))
    cells.insert(1, "seed", runs["seed"].astype(str))
    means = shares.groupby(runs["skill"]).mean().mean().map(lambda s: Cell(share_text(s), tone="strong"))
    ranges = shares.agg(_range)
    ends = [
        pd.Series({"skill": Cell("mean", tone="strong"), "seed": "", **means}),
        pd.Series({"skill": Cell("range", tone="quiet"), "seed": "", **ranges}),
    ]
    return pd.concat([cells, pd.DataFrame(ends)]).rename(columns=_COLUMNS)


def _range(shares: pd.Series) -> Cell:
    low, high = shares.min(), shares.max()
    if percent(low) == percent(high) or pd.isna(low):
        return Cell(share_text(low), tone="quiet")
    return Cell(f"{100 * low:.1f}–{100 * high:.1f}", tone="quiet")


def _picture(runs: pd.DataFrame) -> str:
    of = dict(pairs(runs))
    labels = [f"{skill} · {short(student)}" for student, skill in of]
    with drawing(900, 60 + 30 * len(of)) as figure:
        axes = figure.subplots()
        for y, group in enumerate(of.values()):
            before, teacher, after = group["before"].mean(), group["teacher"].mean(), group["after"].dropna()
            if not pd.isna(before) and len(after):
                axes.plot([before, after.mean()], [y, y], color=LINE, linewidth=5, solid_capstyle="round")
            if not pd.isna(before):
                axes.plot(before, y, "o", markersize=9, markerfacecolor="none", color=MUTED)
            if not pd.isna(teacher):
                axes.plot(teacher, y, "|", markersize=20, markeredgewidth=2.5, color=INK)
            axes.plot(after, [y] * len(after), "o", markersize=9, color=series(0), alpha=0.75)
        axes.set(yticks=range(len(of)), yticklabels=labels, ylim=(len(of) - 0.4, -0.6))
        shares_across(axes)
        axes.grid(False, axis="y")
        return inline_svg(figure, "accuracy before and after, by skill and student")


# -- verbalised share -------------------------------------------------------------------------------------------------
def verbalised(results: Sequence[Result]) -> Section:
    """Accuracy by the verbalised share; ``plain`` rehearses true tables alone."""
    title = "Verbalised rows"
    runs = measured(results_frame(results), "m2kt", "plain")
    labels = runs["v"].map(lambda v: f"v = {v:g}").where(runs["arm"] == "m2kt", "plain")
    runs = runs.assign(share=labels)
    runs = runs[runs.groupby(PAIR)["share"].transform("nunique") > 1]
    shares = sorted(runs["share"].unique(), key=lambda label: (label == "plain", label))
    if len(shares) < 2:
        return Section(title, [missing("m2kt", "plain", what="The options v = 0.1, 0.5 and 1 are not measured yet")])
    cells = runs.groupby([*PAIR, "share"])["after"].apply(spread_cell).unstack()[shares].reset_index()
    lead = "v is the share of rows whose output also travels as text. Plain: v = 1, and rehearsal on true tables alone."
    tables = table(cells, note="Range over seeds in brackets.")
    return Section(title, [Figure(partial(_curve, runs, shares)), tables], lead)


def _curve(runs: pd.DataFrame, shares: list[str]) -> str:
    by_student = runs.groupby("student")
    with drawing(min(1060, 480 * by_student.ngroups + 100), 330) as figure:
        panels = figure.subplots(1, by_student.ngroups, squeeze=False, sharey=True)[0]
        for axes, (student, of_student) in zip(panels, by_student, strict=True):
            axes.set_title(short(student))
            for i, (skill, group) in enumerate(of_student.groupby("skill")):
                stats = group.groupby("share")["after"].agg(["mean", "min", "max"]).dropna()
                stats = stats.loc[[share for share in shares if share in stats.index]]
                x = [shares.index(share) + 0.03 * i for share in stats.index]
                line(axes, x, stats, colour=series(i), label=str(skill))
            axes.set_xticks(range(len(shares)), [share.removeprefix("v = ") for share in shares])
            axes.set_xlabel("verbalised share of the rows")
            shares_up(axes)
        legend_right(panels[-1])
        return inline_svg(figure, "accuracy by the verbalised share of the rows")
