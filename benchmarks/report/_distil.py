"""Beside distillation: its curve, how much data the packet does without, and the training cost of both."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import Any

import pandas as pd

from benchmarks._cells import Result
from benchmarks.report._frame import (
    headline_runs,
    measured,
    missing,
    none_if_nan,
    pairs,
    results_frame,
    select,
    short,
    spread_cell,
    table,
)
from benchmarks.report._numbers import (
    UNITS,
    Amount,
    Compute,
    Reduction,
    Unit,
    average,
    compute,
    curves,
    equal_bytes,
    reduction,
)
from benchmarks.report._plots import amounts_across, legend_right, line, shares_up
from m2kt.render import INK, Block, Figure, Section, drawing, inline_svg, percent, series

_AXIS: dict[Unit, str] = {
    "examples": "examples answered by the teacher",
    "tokens": "tokens of teacher text",
    "bytes": "bytes that reach the student",
}
_PANELS = 3  # in a row


def distillation(results: Sequence[Result]) -> Section:
    """Accuracy over data, by method."""
    title = "Beside distillation"
    frame = results_frame(results)
    blocks: list[Block] = []
    rows: list[dict[str, Any]] = []
    for (student, skill), _ in pairs(measured(frame, "distil")):
        points = curves(frame, student, skill)
        mark = equal_bytes(frame, student, skill)
        if not points.empty:
            label = f"distillation of {skill} into {short(student)}"
            picture = partial(_curve_picture, points, headline_runs(frame, student, skill), mark, label)
            blocks.append(Figure(picture, title=f"{skill}, {short(student)}"))
        named = {"student": student, "skill": skill}
        rows += [named | _point(p) for p in points.to_dict("records")]
        if mark is not None:
            rows.append(named | _point({"method": "the packet's bytes", **mark}))
    if not rows:
        return Section(title, [missing("distil")])
    lead = (
        "The same student, trained on problems that the teacher answered. Each point is the best of the rates tried, "
        "chosen on development prompts where there were some. Level line: the packet's accuracy. Stars: the packet's "
        "bytes."
    )
    note = (
        "Range over seeds in brackets. Times seen: below 1 the training budget ended before every example had been "
        "seen once, and more examples could not have helped."
    )
    return Section(title, [*blocks, table(pd.DataFrame(rows), title="All points", note=note, folded=True)], lead)


def _point(p: dict[str, Any]) -> dict[str, Any]:
    seen = "–" if pd.isna(p["sequences"]) or not p["examples"] else f"{p['sequences'] / p['examples']:.1f}"
    return {
        "method": p["method"],
        "examples": f"{p['examples']:,}",
        "times seen": seen,
        "teacher tokens": f"{p['tokens']:,.0f}",
        "bytes": f"{p['bytes']:,.0f}",
        "rate": "–" if pd.isna(p["lr"]) else f"{p['lr']:g}",
        "accuracy": spread_cell(pd.Series(p["seeds"])),
    }


def _curve_picture(points: pd.DataFrame, packet: pd.DataFrame, mark: dict[str, Any] | None, label: str) -> str:
    accuracy, size = packet["after"].dropna(), none_if_nan(packet["bytes"][packet["bytes"] > 0].mean())
    units: tuple[Unit, Unit] = ("examples", "bytes")
    with drawing(1060, 300) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, unit in zip(panels, units, strict=True):
            for i, (method, curve) in enumerate(points[points[unit] > 0].groupby("method")):
                stats = curve[["mean", "low", "high"]].set_axis(["mean", "min", "max"], axis=1)
                line(axes, curve[unit], stats, colour=series(i + 1), label=f"distillation, {method}")
            if len(accuracy):
                axes.axhspan(accuracy.min(), accuracy.max(), color=series(0), alpha=0.12, linewidth=0)
                axes.axhline(accuracy.mean(), color=series(0), label="packet, no example")
            amounts_across(axes)
            axes.set_xlabel(_AXIS[unit])
            shares_up(axes)
        right, star = panels[1], partial(panels[1].plot, marker="*", markersize=14, linestyle="none")
        if size is not None and len(accuracy):
            star(size, accuracy.mean(), color=series(0), label="packet, its bytes")
        if mark is not None and mark["bytes"] > 0:
            star(mark["bytes"], mark["mean"], color=INK, label="distillation, as many")
        legend_right(right)
        return inline_svg(figure, label)


# -- data reduction ---------------------------------------------------------------------------------------------------
def data_reduction(results: Sequence[Result]) -> Section:
    """What the packet does without, in examples, teacher tokens and bytes."""
    title = "Data reduction"
    frame = results_frame(results)
    reductions = {pair: r for pair, _ in pairs(headline_runs(frame)) if (r := reduction(frame, *pair)) is not None}
    if not reductions:
        return Section(title, [missing("distil")])
    rows = [
        {"student": student, "skill": skill, "at accuracy": percent(r.target), "method": r.method} | _reduced(r)
        for (student, skill), r in reductions.items()
    ]
    means: dict[str, str] = {"student": "mean", "skill": "", "at accuracy": "", "method": ""}
    for unit, name in _UNIT_NAMES.items():
        mean = average(r.shares.get(unit) for r in reductions.values())
        means |= {f"{name}: packet / needed": "", f"{name}: less": _share_text(mean)}
    note = (
        "Needed: the amount at which distillation's curve first reaches the packet's accuracy, interpolated in the "
        "logarithm; > where it never does within what was tried, < where its smallest point reaches it. A packet has "
        "no labelled examples by construction, so 100 % less of those is no finding: the teacher's text that reached "
        "the student side, and the bytes, are the stricter counts. A packet holds vectors: it may be larger than the "
        "text."
    )
    block = table(pd.DataFrame([*rows, means]), note=note)
    return Section(title, [block], "At equal accuracy, what distillation needs and the packet does not.")


_UNIT_NAMES: dict[Unit, str] = dict(zip(UNITS, ("examples", "teacher tokens", "bytes"), strict=True))


def _reduced(r: Reduction) -> dict[str, str]:
    row = {}
    for unit, name in _UNIT_NAMES.items():
        needed = r.needed.get(unit)
        amount = "–" if needed is None else needed.text(f"{needed.value:,.0f}")
        row[f"{name}: packet / needed"] = f"{r.used[unit]:,.0f} / {amount}"
        row[f"{name}: less"] = _share_text(r.shares.get(unit))
    return row


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
    frame = results_frame(results)
    of = dict(pairs(headline_runs(frame)))
    rows = [
        {"student": student, "skill": skill} | _computed(cost, runs)
        for (student, skill), runs in of.items()
        if (cost := compute(frame, student, skill)) and (cost.tokens is not None or cost.distil is not None)
    ]
    if not rows:
        return Section(title, [missing("m2kt", "distil")])
    note = (
        "Whole-pass tokens: what ran, in tokens of one forward and backward pass through the whole student, by "
        "operations; more than the tokens where a tiny student is lighter than its reader. To 95 %: those of the "
        "learning curve, evaluated every few updates on distillation's development prompts, where it first reaches "
        "95 %. Ratio: distillation's tokens, at the examples and rate that get there with the fewest, over M2KT's to "
        "95 %, or to its end without a learning curve."
    )
    blocks: list[Block] = [table(pd.DataFrame(rows), note=note)]
    curves_of = {pair: best for pair in of if len(best := _best_curves(curves(frame, *pair)))}
    if curves_of:
        caption = "Lines: distillation, one run for each number of examples. Stars: M2KT, one for each seed."
        blocks.insert(0, Figure(partial(_training_picture, curves_of, of), caption))
    return Section(title, blocks, "Tokens through the student until 95 % of the gap is recovered.")


def _computed(cost: Compute, runs: pd.DataFrame) -> dict[str, str]:
    m2kt = ["not reached" if x is None else f"{x:,.0f}" for x in (cost.tokens, cost.core_tokens)]
    seconds = none_if_nan(runs["train_seconds"][runs["train_seconds"] > 0].mean())
    return {
        "M2KT: tokens": m2kt[0],
        "whole-pass tokens": m2kt[1],
        "to 95 %": "–" if cost.to_target is None else f"{cost.to_target:,.0f}",
        "seconds": "–" if seconds is None else f"{seconds:,.0f}",
        "distillation: tokens": "–" if cost.distil is None else cost.distil.text(f"{cost.distil.value:,.0f}"),
        "with": cost.config or "–",
        "ratio": "–" if cost.ratio is None else cost.ratio.text(f"{cost.ratio.value:.2g} ×"),
    }


def _best_curves(points: pd.DataFrame) -> pd.DataFrame:
    """For each number of examples the method with the best accuracy, where its first seed has a learning curve."""
    points = select(points, [bool(m.curve) for m in points["first"]])
    return points.loc[points.groupby("examples")["mean"].idxmax()] if len(points) else points


def _training_picture(
    curves_of: dict[tuple[str, str], pd.DataFrame], runs_of: dict[tuple[str, str], pd.DataFrame]
) -> str:
    columns = min(_PANELS, len(curves_of))
    rows = ceil(len(curves_of) / columns)
    numbers = sorted({n for points in curves_of.values() for n in points["examples"]})
    with drawing(330 * columns + 130, 280 * rows) as figure:
        panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
        for axes, (pair, points) in zip(panels, curves_of.items(), strict=False):
            axes.set_title(f"{pair[1]}, {short(pair[0])}")
            for n, m in zip(points["examples"], points["first"], strict=True):
                # the more examples, the stronger the colour
                strength = 0.25 + 0.75 * (numbers.index(n) + 1) / len(numbers)
                x, y = [p.tokens for p in m.curve], [p.accuracy for p in m.curve]
                axes.plot(x, y, color=series(1), alpha=strength, label=f"{n:,} examples")
            runs = runs_of[pair]
            for _, run in runs[(runs["core_tokens"] > 0) & runs["after"].notna()].iterrows():
                axes.plot(run["core_tokens"], run["after"], "*", markersize=14, color=series(0), alpha=0.7)
            amounts_across(axes)
            axes.set_xlabel("tokens through the student")
            shares_up(axes)
        for axes in panels[len(curves_of) :]:
            axes.set_axis_off()
        legend_right(panels[columns - 1])
        return inline_svg(figure, "accuracy by tokens through the student")
