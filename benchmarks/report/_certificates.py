"""Certificates beside what was measured: does the bound hold, and how close is it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks._cells import Result
from benchmarks.report._plots import legend_right, shares_across, shares_up
from benchmarks.report._runs import Run, grouped, missing, short
from m2kt.render import INK, Block, Cell, Figure, Section, Table, drawing, inline_svg, percent, series


@dataclass(frozen=True)
class Certified:
    """One student: what was promised at a confidence, and what came on unseen prompts."""

    run: Run
    confidence: float
    bound: float
    divergence_bound: float
    measured: float


def certified(results: Sequence[Result]) -> list[Certified]:
    """All students that have a certificate. Measured: answers as the packet's roll-out where that is another truth."""
    found = []
    for r in results:
        if r.status != "done" or r.measured is None or "certificate" not in r.measured.extra:
            continue
        m, promised = r.measured, r.measured.extra["certificate"]
        came = m.after if m.followed is None else m.followed
        if came is not None:
            bounds = (promised["confidence"], promised["bound"], promised["divergence_bound"])
            found.append(Certified(Run(r.cell, m), *bounds, came))
    return found


def certificates(results: Sequence[Result]) -> Section:
    """By student model: how many hold, and the distance in the median."""
    title = "Certificates"
    found = certified(results)
    if not found:
        return Section(title, [missing("m2kt")])
    rows: list[list[Cell | str]] = []
    for student, group in sorted(grouped(found, lambda c: c.run.cell.student).items()):
        for kind, bound in (("errors", "bound"), ("divergences", "divergence_bound")):
            slack = [c.measured - float(getattr(c, bound)) for c in group]
            held = sum(s >= 0 for s in slack)
            skills = len({c.run.cell.skill for c in group})
            cells = [str(len(group)), str(skills), f"{held} ({percent(held / len(slack))})"]
            points = [f"{100 * x:.1f}" for x in (median(slack), min(slack), max(slack))]
            rows.append([short(student), kind, percent(group[0].confidence, 0), *cells, *points])
    head = [
        "student",
        "bound from",
        "confidence",
        "ingested",
        "skills",
        "holds",
        "distance: median",
        "least",
        "most",
    ]
    note = (
        "Distance: measured accuracy on unseen prompts less the bound, in points; below 0 the bound did not hold. "
        "The certificate is computed from single steps on other prompts, before anything is measured on these."
    )
    blocks: list[Block] = [Figure(partial(_picture, found)), Table(head, rows, note=note)]
    return Section(title, blocks, "What was promised of whole problems from single steps, and what came.")


def _picture(found: list[Certified]) -> str:
    with drawing(560, 420) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, label="promised = measured")
        for i, (student, group) in enumerate(sorted(grouped(found, lambda c: c.run.cell.student).items())):
            x, y = [max(0.0, c.bound) for c in group], [c.measured for c in group]
            axes.plot(x, y, "o", color=series(i), alpha=0.5, label=short(student))
        shares_across(axes)
        shares_up(axes)
        axes.set_xlabel("promised at least")
        axes.set_ylabel("measured")
        legend_right(axes)
        return inline_svg(figure, "measured accuracy over certified bound")
