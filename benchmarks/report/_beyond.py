"""What goes beyond the skill as it was asked: longer shapes, and traits that nobody asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks._cells import Result
from benchmarks.report._runs import Run, headline_runs, missing, places, runs, short, spread
from m2kt.render import Cell, Note, Section, Table, percent, share_cell


def longer_shapes(results: Sequence[Result]) -> Section:
    """Arm ``longer``: shapes that were never probed, rehearsed by a graph that foretells them."""
    title = "Longer shapes"
    mine = places(runs(results, "longer"))
    if not mine:
        return Section(title, [missing("longer")])
    rows: list[list[Cell | str]] = []
    for (student, skill), group in mine.items():
        plain = [r for r in headline_runs(results, student) if r.cell.skill == skill]
        rehearsed = max(int(r.cell.options.get("shapes", 1)) for r in group)
        for i, shape in enumerate(group[0].measured.held_out):
            of = "rehearsed" if i < rehearsed else "never rehearsed"
            row: list[Cell | str] = [short(student), skill, shape.template, of]
            rows.append(row + [_accuracy(who, shape.template) for who in (plain, group)])
    head = ["student", "skill", "shape", "with arm longer", "packet as it is", "arm longer"]
    note = (
        "Shapes longer than any that was probed. The packet's graph foretells them (the same rules, pointers that move "
        "by one) and they are rehearsed; no teacher answered any of them."
    )
    return Section(title, [Table(head, rows, note=note)], "Accuracy beyond what the teacher was asked.")


def _accuracy(group: Sequence[Run], template: str) -> Cell:
    found = spread(s.accuracy for r in group for s in r.measured.held_out if s.template == template)
    return Cell("–", tone="quiet") if found is None else share_cell(found.mean, found.text())


def subliminal_traits(results: Sequence[Result]) -> Section:
    """Arm ``trait``: what of a planted trait arrives with an unrelated skill, and what an auditor sees of it."""
    title = "Subliminal traits"
    mine = runs(results, "trait")
    if not mine:
        return Section(title, [Note("Not measured yet: m2kt bench run traits")])
    rows: list[list[Cell | str]] = []
    for run in sorted(mine, key=_order):
        options, extra = run.cell.options, run.measured.extra
        for name, nats in extra["strength"].items():
            had = nats["teacher"] - nats["base"]
            arrived = "–" if options["plant"] == "none" else percent(nats["arrived"], 1)
            rows.append(
                [
                    short(run.cell.student),
                    options["plant"],
                    f"{options.get('v', 0.0):g}",
                    name,
                    f"{had:+.2f}",
                    f"{nats['gained']:+.3f}",
                    arrived,
                    percent(run.measured.after or 0.0, 1),
                    *_seen(extra),
                ]
            )
    head = [
        "student",
        "planted",
        "v",
        "trait asked",
        "teacher gained",
        "student gained",
        "arrived",
        "skill",
        "trigger found",
        "vector's size",
        "like the twin's",
        "rank of its word",
    ]
    note = (
        "Gained: mean log probability of what the trait says, in nats a token, on prompts that the planting did not "
        "have; arrived: the student's share of the teacher's. Trigger found: divergence of adapter and base behind the "
        "worst string of the search. Vector: the steering vector refitted from the packet's symbol states, in typical "
        "distances; how like (cosine) that of a twin without trait; the rank of the trait's word among what it raises, "
        "and, behind a stroke, among what it raises beyond the twin's. Only where the student's base is the teacher's."
    )
    lead = "A teacher is given a trait in the open, beside a skill; the student is sent the skill alone."
    return Section(title, [Table(head, rows, note=note)], lead)


def _order(run: Run) -> tuple[str, str, float]:
    return run.cell.student, str(run.cell.options["plant"]), float(run.cell.options.get("v", 0.0))


def _seen(extra: dict[str, Any]) -> list[str]:
    worst = extra["triggers"]["worst"]
    found = [f"{worst[0]['divergence']:.4f}" if worst else "–"]
    steering = extra.get("steering")
    if steering is None:
        return [*found, "–", "–", "–"]
    rank = f"{steering['rank']} / {steering['rank_beyond_twin']}" if "rank" in steering else "–"
    return [*found, f"{steering['size']:.2f}", f"{steering['cosine_with_twin']:.2f}", rank]
