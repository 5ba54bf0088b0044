"""What arrived: the headline's tiles and table, the picture of it, and the share of rows in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from benchmarks._cells import Result
from benchmarks.report._numbers import Headline, average, compute, headline, reduction, single_steps
from benchmarks.report._plots import legend_right, line, shares_across, shares_up
from benchmarks.report._runs import (
    Run,
    Spread,
    grouped,
    headline_runs,
    is_headline,
    mean,
    missing,
    overall,
    places,
    runs,
    short,
    spread,
)
from m2kt.render import (
    INK,
    LINE,
    MUTED,
    Block,
    Cell,
    Figure,
    Note,
    Section,
    Table,
    Tile,
    Tiles,
    drawing,
    inline_svg,
    percent,
    series,
    share_cell,
)

_HEAD = ("skill", "seed")
_COLUMNS: dict[str, Callable[[Run], float | None]] = {
    "teacher": lambda run: run.measured.teacher,
    "before": lambda run: run.measured.before,
    "after": lambda run: run.measured.after,
    "retention": lambda run: run.measured.retention,
    "gap recovered": lambda run: run.measured.gap_recovered,
    "agreement": lambda run: run.measured.agreement,
    "single steps": single_steps,
    "longer shapes": lambda run: overall(run.measured.held_out),
}


def tiles(results: Sequence[Result]) -> Section:
    """The headline to look at."""
    found = headline(results)
    of = places(headline_runs(results))
    reductions = [r for place in of if (r := reduction(results, *place))]
    tokens = average(r.shares.get("tokens") for r in reductions)
    ratio = average(c.ratio for place in of if (c := compute(results, *place)))
    lost = sum(is_headline(r.cell) and r.status != "done" for r in results)
    blocks: list[Block] = [
        Tiles(
            [
                Tile("retention", percent(found.mean_retention), "of the teacher's accuracy, mean"),
                Tile("gap recovered", percent(found.mean_gap_recovered), _worst(found)),
                Tile("single steps", percent(found.latent_only), "on rows that were never in words"),
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
                Tile("measured", f"{found.skills} × {found.seeds}", "skills × seeds"),
            ]
        )
    ]
    if lost:
        blocks.append(
            Note(
                f"Cells of the headline arm that were refused or failed: {lost}; the means leave them out.",
                "bad",
            )
        )
    return Section(
        "Headline",
        blocks,
        "A frozen student before and after it takes a packet in; no rule's output in words.",
    )


def _worst(found: Headline) -> str:
    worst = found.worst_gap_recovered
    return "mean" if worst is None else f"mean; worst {percent(worst)}"


def transfers(results: Sequence[Result]) -> Section:
    """Skill by seed, a table for each student, with mean and range."""
    mine = headline_runs(results)
    if not mine:
        return Section("Transfers", [missing("m2kt")])
    caption = "Ring: the frozen student. Dots: after, one a seed. Bar: the teacher."
    blocks: list[Block] = [Figure(partial(_picture, mine), caption)]
    for student, group in sorted(grouped(mine, lambda r: r.cell.student).items()):
        ordered = sorted(group, key=lambda r: (r.cell.skill, r.cell.seed))
        rows = [_row(run) for run in ordered] + _last_rows(ordered)
        blocks.append(Table([*_HEAD, *_COLUMNS], rows, title=f"{short(student)}, frozen"))
    note = (
        "Brackets: Wilson 95 % interval over the prompts. Mean: over skills of the seeds' mean. Longer shapes were "
        "never probed or rehearsed."
    )
    return Section("Transfers", [*blocks, Note(note)])


def _row(run: Run) -> list[Cell | str]:
    after = percent(run.measured.after)
    if (bounds := run.measured.interval) is not None:
        after += f" [{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"
    values = {name: value(run) for name, value in _COLUMNS.items()}
    cells = {name: Cell(percent(share)) for name, share in values.items()}
    cells["after"] = share_cell(values["after"], after)
    cells["gap recovered"] = share_cell(values["gap recovered"])
    return [run.cell.skill, str(run.cell.seed), *cells.values()]


def _last_rows(group: list[Run]) -> list[list[Cell | str]]:
    """Mean over skills of the seeds' means; and the range over all cells."""
    by_skill = grouped(group, lambda r: r.cell.skill).values()
    means: list[Cell | str] = [Cell("mean", tone="strong"), ""]
    ranges: list[Cell | str] = [Cell("range", tone="quiet"), ""]
    for value in _COLUMNS.values():
        means.append(Cell(percent(mean(mean(map(value, runs_)) for runs_ in by_skill)), tone="strong"))
        found = spread(map(value, group))
        ranges.append(Cell("–" if found is None else _range(found), tone="quiet"))
    return [means, ranges]


def _range(found: Spread) -> str:
    alike = percent(found.low) == percent(found.high)
    return percent(found.low) if alike else f"{100 * found.low:.1f}–{100 * found.high:.1f}"


def _picture(mine: list[Run]) -> str:
    of = places(mine)
    labels = [f"{skill} · {short(student)}" for student, skill in of]
    with drawing(900, 60 + 30 * len(of)) as figure:
        axes = figure.subplots()
        for y, group in enumerate(of.values()):
            before, teacher = (mean(getattr(r.measured, n) for r in group) for n in ("before", "teacher"))
            after = [r.measured.after for r in group if r.measured.after is not None]
            if before is not None and after:
                axes.plot(
                    [before, sum(after) / len(after)], [y, y], color=LINE, linewidth=5, solid_capstyle="round"
                )
            if before is not None:
                axes.plot(before, y, "o", markersize=9, markerfacecolor="none", color=MUTED)
            if teacher is not None:
                axes.plot(teacher, y, "|", markersize=20, markeredgewidth=2.5, color=INK)
            axes.plot(after, [y] * len(after), "o", markersize=9, color=series(0), alpha=0.75)
        axes.set(yticks=range(len(of)), yticklabels=labels, ylim=(len(of) - 0.4, -0.6))
        shares_across(axes)
        axes.grid(False, axis="y")
        return inline_svg(figure, "accuracy before and after, by skill and student")


# -- verbalised share -------------------------------------------------------------------------------------------------
_PLAIN = "plain"


def verbalised(results: Sequence[Result]) -> Section:
    """Accuracy by the share of rows in words; ``plain`` trains on true tables only."""
    title = "Rows in words"
    of = places([*runs(results, "m2kt"), *runs(results, "plain")])
    mine = [run for group in of.values() if len({_share(r) for r in group}) > 1 for run in group]
    steps = sorted({_share(r) for r in mine}, key=lambda v: (v == _PLAIN, v))
    if len(steps) < 2:
        return Section(
            title, [missing("m2kt", "plain", what="The options v = 0.1, 0.5 and 1 are not measured yet")]
        )
    rows: list[list[Cell | str]] = []
    for (student, skill), group in places(mine).items():
        row: list[Cell | str] = [short(student), skill]
        for step in steps:
            found = spread(r.measured.after for r in group if _share(r) == step)
            row.append(Cell("–", tone="quiet") if found is None else share_cell(found.mean, found.text()))
        rows.append(row)
    heads = [step if step == _PLAIN else f"v = {step}" for step in steps]
    lead = "v is the share of rows whose output also travels in words. Plain: v = 1, and rehearsal on true tables only."
    table = Table(["student", "skill", *heads], rows, note="Range over seeds in brackets.")
    return Section(title, [Figure(partial(_curve, mine, steps)), table], lead)


def _share(run: Run) -> str:
    return _PLAIN if run.cell.arm == "plain" else f"{run.cell.options.get('v', 0):g}"


def _curve(mine: list[Run], steps: list[str]) -> str:
    by_student = sorted(grouped(mine, lambda r: r.cell.student).items())
    with drawing(min(1060, 480 * len(by_student) + 100), 330) as figure:
        panels = figure.subplots(1, len(by_student), squeeze=False, sharey=True)[0]
        for axes, (student, group) in zip(panels, by_student, strict=True):
            axes.set_title(short(student))
            for i, (skill, runs_) in enumerate(sorted(grouped(group, lambda r: r.cell.skill).items())):
                found = [spread(r.measured.after for r in runs_ if _share(r) == step) for step in steps]
                points = [(x + 0.03 * i, f) for x, f in enumerate(found) if f is not None]
                line(axes, [x for x, _ in points], [f for _, f in points], colour=series(i), label=skill)
            axes.set_xticks(range(len(steps)), steps)
            axes.set_xlabel("share of rows in words")
            shares_up(axes)
        legend_right(panels[-1])
        return inline_svg(figure, "accuracy by the share of rows in words")
