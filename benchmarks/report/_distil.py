"""Beside distillation: its curve, how much data the packet does without, and what either costs to train."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import ceil

from benchmarks._cells import Result
from benchmarks.report._numbers import (
    UNITS,
    Amount,
    Point,
    Reduction,
    Unit,
    average,
    compute,
    curves,
    equal_bytes,
    reduction,
)
from benchmarks.report._plots import amounts_across, legend_right, line, shares_up
from benchmarks.report._runs import Run, headline_runs, mean, missing, places, runs, short, spread
from m2kt.render import (
    INK,
    Block,
    Cell,
    Figure,
    Section,
    Table,
    drawing,
    inline_svg,
    percent,
    series,
    share_cell,
)

_AXIS: dict[Unit, str] = {
    "examples": "examples answered by the teacher",
    "tokens": "tokens of teacher text",
    "bytes": "bytes that reach the student",
}
_ABREAST = 3


def distillation(results: Sequence[Result]) -> Section:
    """Accuracy over data, by method."""
    title = "Beside distillation"
    blocks: list[Block] = []
    rows: list[list[Cell | str]] = []
    for student, skill in places(runs(results, "distil")):
        by_method = curves(results, student, skill)
        mark = equal_bytes(results, student, skill)
        packet = [r for r in headline_runs(results, student) if r.cell.skill == skill]
        if by_method:
            label = f"distillation of {skill} into {short(student)}"
            picture = partial(_curve_picture, by_method, packet, mark, label)
            blocks.append(Figure(picture, title=f"{skill}, {short(student)}"))
        rows += [_point_row(student, skill, m, p) for m, points in by_method.items() for p in points]
        if mark is not None:
            rows.append(_point_row(student, skill, "the packet's bytes", mark))
    if not rows:
        return Section(title, [missing("distil")])
    head = [
        "student",
        "skill",
        "method",
        "examples",
        "times seen",
        "teacher tokens",
        "bytes",
        "rate",
        "accuracy",
    ]
    lead = (
        "The same student, trained on problems that the teacher answered. Each point is the best of the rates tried, "
        "chosen on other prompts where there were some. Level line: what the packet reaches. Stars: the packet's bytes."
    )
    note = (
        "Range over seeds in brackets. Times seen: below 1 the budget of the training ended before every example had "
        "been seen once, and more of them could not have helped."
    )
    table = Table(head, rows, title="All points", note=note, folded=True)
    return Section(title, [*blocks, table], lead)


def _curve_picture(
    by_method: dict[str, list[Point]], packet: list[Run], mark: Point | None, label: str
) -> str:
    reached = spread(r.measured.after for r in packet)
    size = mean(r.measured.ledger.bytes or None for r in packet)
    units: tuple[Unit, Unit] = ("examples", "bytes")
    with drawing(1060, 300) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, unit in zip(panels, units, strict=True):
            for i, (method, points) in enumerate(by_method.items()):
                known = [p for p in points if p.amount(unit) > 0]
                x = [p.amount(unit) for p in known]
                line(
                    axes,
                    x,
                    [p.accuracy for p in known],
                    colour=series(i + 1),
                    label=f"distillation, {method}",
                )
            if reached is not None:
                axes.axhspan(reached.low, reached.high, color=series(0), alpha=0.12, linewidth=0)
                axes.axhline(reached.mean, color=series(0), label="packet, no example")
            amounts_across(axes)
            axes.set_xlabel(_AXIS[unit])
            shares_up(axes)
        right = panels[1]
        if size is not None and reached is not None:
            right.plot(
                size,
                reached.mean,
                "*",
                markersize=14,
                color=series(0),
                linestyle="none",
                label="packet, its bytes",
            )
        if mark is not None and mark.bytes > 0:
            name = "distillation, as many"
            right.plot(
                mark.bytes, mark.accuracy.mean, "*", markersize=14, color=INK, linestyle="none", label=name
            )
        legend_right(right)
        return inline_svg(figure, label)


def _point_row(student: str, skill: str, method: str, point: Point) -> list[Cell | str]:
    sequences = mean(r.measured.ledger.sequences or None for r in point.runs)
    seen = "–" if sequences is None or not point.examples else f"{sequences / point.examples:.1f}"
    amounts = [f"{point.examples:,}", seen, f"{point.tokens:,.0f}", f"{point.bytes:,.0f}"]
    rate = "–" if point.lr is None else f"{point.lr:g}"
    accuracy = share_cell(point.accuracy.mean, point.accuracy.text())
    return [short(student), skill, method, *amounts, rate, accuracy]


# -- data reduction ---------------------------------------------------------------------------------------------------
def data_reduction(results: Sequence[Result]) -> Section:
    """What the packet does without, in examples, teacher tokens and bytes."""
    title = "Data reduction"
    of = places(headline_runs(results))
    found = {place: r for place in of if (r := reduction(results, *place))}
    if not found:
        return Section(title, [missing("distil")])
    rows: list[list[Cell | str]] = []
    for (student, skill), r in found.items():
        cells = [text for unit in UNITS for text in _reduced(r, unit)]
        rows.append([short(student), skill, percent(r.target), r.method, *cells])
    means = [average(r.shares.get(unit) for r in found.values()) for unit in UNITS]
    rows.append(["mean", "", "", "", *(x for m in means for x in ("", _share_text(m)))])
    head = ["student", "skill", "at accuracy", "method"]
    head += [
        h for unit in ("examples", "teacher tokens", "bytes") for h in (f"{unit}: packet / needed", "less")
    ]
    note = (
        "Needed: where distillation's curve first reaches the packet's accuracy, interpolated in the logarithm; > "
        "where it never does within what was tried, < where its smallest point is there already. A packet has no "
        "labelled examples by construction, so 100 % less of those is no finding: the teacher's text that reached the "
        "student side, and the bytes, are the stricter counts. A packet holds vectors: it may be larger than the text."
    )
    return Section(
        title,
        [Table(head, rows, note=note)],
        "At equal accuracy, what distillation needs and the packet does not.",
    )


def _reduced(r: Reduction, unit: Unit) -> tuple[str, str]:
    needed = r.needed.get(unit)
    against = "–" if needed is None else needed.text(f"{needed.value:,.0f}")
    return f"{r.used[unit]:,.0f} / {against}", _share_text(r.shares.get(unit))


def _share_text(share: Amount | None) -> str:
    """``> 99.2 %``; ``15 × as much`` where the packet is the larger."""
    if share is None:
        return "–"
    if share.value < 0:
        turned = {"": "", ">": "< ", "<": "> "}[share.bound]
        return f"{turned}{1 - share.value:.1f} × as much"
    return share.text(percent(share.value))


# -- compute ----------------------------------------------------------------------------------------------------------
def training(results: Sequence[Result]) -> Section:
    """Tokens to 95 % of the gap."""
    title = "Compute"
    of = places(headline_runs(results))
    rows: list[list[Cell | str]] = []
    for (student, skill), group in of.items():
        found = compute(results, student, skill)
        if found is None or (found.tokens is None and found.distil is None):
            continue
        ours = ["not reached" if x is None else f"{x:,.0f}" for x in (found.tokens, found.core_tokens)]
        ours.append("–" if found.on_the_way is None else f"{found.on_the_way:,.0f}")
        seconds = mean(r.measured.ledger.train_seconds or None for r in group)
        theirs = "–" if found.distil is None else found.distil.text(f"{found.distil.value:,.0f}")
        ratio = "–" if found.ratio is None else found.ratio.text(f"{found.ratio.value:.2g} ×")
        spent = "–" if seconds is None else f"{seconds:,.0f}"
        rows.append([short(student), skill, *ours, spent, theirs, found.config or "–", ratio])
    if not rows:
        return Section(title, [missing("m2kt", "distil")])
    head = [
        "student",
        "skill",
        "M2KT: tokens",
        "in whole passes",
        "to 95 %",
        "seconds",
        "distillation: tokens",
        "with",
        "ratio",
    ]
    note = (
        "Whole passes: what ran, in tokens of one forward and backward pass through the whole student, by operations; "
        "more than the tokens where a tiny student is lighter than its reader. To 95 %: those spent when a watched run "
        "first got there, asked every few updates on the prompts that distillation is watched by. Ratio: "
        "distillation's tokens, at the examples and rate that get there with the fewest, over M2KT's to 95 %, or to "
        "its end where it was not watched."
    )
    blocks: list[Block] = [Table(head, rows, note=note)]
    curves_of = {place: best for place in of if (best := _best_runs(results, *place))}
    if curves_of:
        caption = "Lines: distillation, one run for each number of examples. Stars: M2KT, one a seed."
        blocks.insert(0, Figure(partial(_training_picture, curves_of, of), caption))
    return Section(title, blocks, "Tokens through the student until 95 % of the gap is recovered.")


_Place = tuple[str, str]


def _training_picture(curves_of: dict[_Place, dict[int, Run]], ours: dict[_Place, list[Run]]) -> str:
    columns = min(_ABREAST, len(curves_of))
    rows = ceil(len(curves_of) / columns)
    numbers = sorted({n for found in curves_of.values() for n in found})
    with drawing(330 * columns + 130, 280 * rows) as figure:
        panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
        for axes, (place, found) in zip(panels, curves_of.items(), strict=False):
            student, skill = place
            axes.set_title(f"{skill}, {short(student)}")
            for n, run in found.items():
                # the more examples, the stronger the colour
                strength = 0.25 + 0.75 * (numbers.index(n) + 1) / len(numbers)
                curve = run.measured.curve
                x, y = [p.tokens for p in curve], [p.accuracy for p in curve]
                axes.plot(x, y, color=series(1), alpha=strength, label=f"{n:,} examples")
            for run in ours[place]:
                spent, after = run.measured.ledger.core_tokens, run.measured.after
                if spent and after is not None:
                    axes.plot(spent, after, "*", markersize=14, color=series(0), alpha=0.7)
            amounts_across(axes)
            axes.set_xlabel("tokens through the student")
            shares_up(axes)
        for axes in panels[len(curves_of) :]:
            axes.set_axis_off()
        legend_right(panels[columns - 1])
        return inline_svg(figure, "accuracy by tokens through the student")


def _best_runs(results: Sequence[Result], student: str, skill: str) -> dict[int, Run]:
    """For each number of examples a run of the method that does best with it, where it kept its curve."""
    found: dict[int, Point] = {}
    for points in curves(results, student, skill).values():
        for point in points:
            best = found.get(point.examples)
            if point.runs[0].measured.curve and (best is None or best.accuracy.mean < point.accuracy.mean):
                found[point.examples] = point
    return {n: found[n].runs[0] for n in sorted(found)}
