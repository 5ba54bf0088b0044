"""Beyond the probed skill: longer shapes, and subliminal traits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchmarks._cells import Result
from benchmarks.report._frame import (
    column,
    headline_runs,
    measured,
    missing,
    pairs,
    results_frame,
    share_text,
    spread_cell,
    table,
)
from m2kt.render import Cell, Note, Section, percent


def longer_shapes(results: Sequence[Result]) -> Section:
    """Experiment ``longer``: shapes that were never probed, rehearsed as well."""
    title = "Longer shapes"
    frame = results_frame(results)
    runs = measured(frame, "longer")
    if runs.empty:
        return Section(title, [missing("longer")])
    rows: list[dict[str, Any]] = []
    for (student, skill), group in pairs(runs):
        rehearsed = max(int(o.get("shapes", 1)) for o in group["options"])
        for i, shape in enumerate(group["measured"].iloc[0].held_out):
            rows.append(
                {
                    "student": student,
                    "skill": skill,
                    "shape": shape.template,
                    "with experiment longer": "rehearsed" if i < rehearsed else "never rehearsed",
                    "packet as it is": _accuracy(headline_runs(frame, student, skill), shape.template),
                    "experiment longer": _accuracy(group, shape.template),
                }
            )
    note = (
        "Shapes longer than any that was probed. The packet's program writes them too, and they are rehearsed; no "
        "teacher answered any of them."
    )
    return Section(title, [table(pd.DataFrame(rows), note=note)], "Accuracy beyond what the teacher was asked.")


def _accuracy(runs: pd.DataFrame, template: str) -> Cell:
    values = [s.accuracy for m in runs["measured"] for s in m.held_out if s.template == template]
    return spread_cell(pd.Series(values, dtype=float))


def subliminal_traits(results: Sequence[Result]) -> Section:
    """Experiment ``trait``: the share of a planted trait that arrives, and what an auditor measures of it."""
    title = "Subliminal traits"
    runs = measured(results_frame(results), "trait")
    if runs.empty:
        return Section(title, [Note("Not measured yet: m2kt bench run traits")])
    runs = runs.assign(plant=column(runs, "plant").astype(str))
    runs = runs.sort_values(["student", "plant", "v"], kind="stable")
    rows = [
        _trait_row(run, name, nats)
        for _, run in runs.iterrows()
        for name, nats in run["measured"].extra["strength"].items()
    ]
    note = (
        "Gained: mean log probability of the trait's words, in nats a token, on prompts that the planting did not use; "
        "arrived: the student's share of the teacher's. Trigger: divergence of adapter and base behind the worst "
        "string of the search. Vector: the steering vector refitted from the packet's prototype samples, in typical "
        "distances; its cosine with that of a twin without trait; the rank of the trait's word among the words it "
        "raises, and, behind a stroke, among those it raises beyond the twin's. Only where the student's base is the "
        "teacher's."
    )
    lead = "A teacher is given a trait in the open, beside a skill; the student is sent the skill alone."
    return Section(title, [table(pd.DataFrame(rows), note=note)], lead)


def _trait_row(run: pd.Series, name: str, nats: dict[str, float]) -> dict[str, str]:
    extra = run["measured"].extra
    worst, steering = extra["triggers"]["worst"], extra.get("steering") or {}
    rank = f"{steering['rank']} / {steering['rank_beyond_twin']}" if "rank" in steering else "–"
    return {
        "student": run["student"],
        "planted": run["plant"],
        "v": f"{run['v']:g}",
        "trait": name,
        "teacher gained": f"{nats['teacher'] - nats['base']:+.2f}",
        "student gained": f"{nats['gained']:+.3f}",
        "arrived": "–" if run["plant"] == "none" else percent(nats["arrived"], 1),
        "skill": share_text(run["after"]) if pd.notna(run["after"]) else percent(0.0),
        "trigger": f"{worst[0]['divergence']:.4f}" if worst else "–",
        "vector's size": f"{steering['size']:.2f}" if steering else "–",
        "cosine with the twin's": f"{steering['cosine_with_twin']:.2f}" if steering else "–",
        "rank of its word": rank,
    }
