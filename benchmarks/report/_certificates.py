"""Certificates beside measurements: whether the bound holds, and its distance."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd

from benchmarks._cells import Result
from benchmarks.report._frame import missing, results_frame, select, short, table
from benchmarks.report._plots import legend_right, shares_across, shares_up
from m2kt.render import INK, Block, Figure, Section, drawing, inline_svg, percent, series

_BOUNDS = {"bound": "errors", "divergence_bound": "divergences"}


def certified(results: Sequence[Result]) -> pd.DataFrame:
    """All students with a certificate: its confidence and bounds, and the accuracy on unseen prompts.

    For an altered packet the accuracy is the share of answers that follow the packet's rollout.
    """
    frame = results_frame(results)
    frame = frame[(frame["status"] == "done") & frame["measured"].notna()]
    frame = select(frame, ["certificate" in m.extra for m in frame["measured"]])
    promised = pd.DataFrame([m.extra["certificate"] for m in frame["measured"]], index=frame.index)
    promised = promised.reindex(columns=["confidence", *_BOUNDS])
    accuracy = frame["followed"].fillna(frame["after"]).rename("accuracy")
    return frame[["student", "skill"]].join([promised, accuracy]).dropna(subset=["accuracy"])


def certificates(results: Sequence[Result]) -> Section:
    """By student model: how many bounds hold, and the median distance."""
    title = "Certificates"
    frame = certified(results)
    if frame.empty:
        return Section(title, [missing("m2kt")])
    rows: list[dict[str, Any]] = []
    for student, group in frame.groupby("student"):
        for bound, kind in _BOUNDS.items():
            distance = 100 * (group["accuracy"] - group[bound])
            held = int((distance >= 0).sum())
            rows.append(
                {
                    "student": student,
                    "bound from": kind,
                    "confidence": percent(group["confidence"].iloc[0], 0),
                    "ingested": str(len(group)),
                    "skills": str(group["skill"].nunique()),
                    "holds": f"{held} ({percent(held / len(group))})",
                    "distance: median": f"{distance.median():.1f}",
                    "least": f"{distance.min():.1f}",
                    "most": f"{distance.max():.1f}",
                }
            )
    note = (
        "Distance: accuracy on unseen prompts less the bound, in points; below 0 the bound did not hold. The "
        "certificate is computed from single steps on other prompts, before anything is measured on these."
    )
    blocks: list[Block] = [Figure(partial(_picture, frame)), table(pd.DataFrame(rows), note=note)]
    return Section(title, blocks, "The certificate's bounds on whole problems, and the accuracy that was measured.")


def _picture(frame: pd.DataFrame) -> str:
    with drawing(560, 420) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, label="bound = measured")
        for i, (student, group) in enumerate(frame.groupby("student")):
            x, y = group["bound"].clip(lower=0), group["accuracy"]
            axes.plot(x, y, "o", color=series(i), alpha=0.5, label=short(student))
        shares_across(axes)
        shares_up(axes)
        axes.set_xlabel("certified bound")
        axes.set_ylabel("measured")
        legend_right(axes)
        return inline_svg(figure, "measured accuracy over certified bound")
