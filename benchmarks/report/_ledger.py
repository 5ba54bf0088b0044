"""What was used, how fast it runs, on which machine, and which cells have no measurement."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from benchmarks._cells import Ledger, Result
from benchmarks.report._frame import PAIR, headline_runs, measured, missing, results_frame, short, table
from m2kt.render import Block, Cell, Note, Section, Table

_FIELDS = {name: name.replace("_", " ") for name in Ledger.model_fields}


def ledger(results: Sequence[Result]) -> Section:
    """What each transfer used: how "data-free" is counted."""
    title = "Data ledger"
    runs = headline_runs(results_frame(results))
    if runs.empty:
        return Section(title, [missing("m2kt")])
    means = runs.groupby(PAIR)[list(_FIELDS)].mean().map("{:,.0f}".format).rename(columns=_FIELDS)
    about: list[list[Cell | str]] = [
        [_FIELDS[name], f.description] for name, f in Ledger.model_fields.items() if f.description
    ]
    counted = Table(["", ""], about, title="How it is counted", folded=True)
    lead = "The headline experiment, v = 0; means over seeds."
    return Section(title, [table(means.reset_index()), counted], lead)


def speed(results: Sequence[Result]) -> Section:
    """Experiment ``speed``: all numbers that it measured."""
    title = "Speed"
    runs = measured(results_frame(results), "speed").drop_duplicates([*PAIR, "seed"])
    if runs.empty:
        return Section(title, [missing("speed")])
    numbers = pd.DataFrame([m.extra for m in runs["measured"]], index=_names(runs)).T
    texts = numbers.map(lambda value: "–" if pd.isna(value) else f"{value:,.4g}")
    texts.insert(0, "", [name.replace("_", " ") for name in texts.index])
    return Section(title, [table(texts)])


def _names(runs: pd.DataFrame) -> list[str]:
    return [f"{skill}, {short(name)}" for name, skill in zip(runs["student"], runs["skill"], strict=True)]


def provenance(results: Sequence[Result]) -> Section:
    """Machine, commit, seeds, times."""
    title = "Where it was measured"
    frame = results_frame(results)
    if frame.empty:
        return Section(title, [missing("m2kt")])
    rows = []
    for (machine, commit), group in frame.groupby(["machine", "commit"], sort=False):
        about = ", ".join(f"{k} {v}" for k, v in json.loads(machine).items() if v is not None)
        started = sorted(time for time in group["started"] if time)
        rows.append(
            {
                "machine": about or "not recorded",
                "commit": commit or "–",
                "seeds": ", ".join(map(str, sorted(group["seed"].unique()))),
                "cells": str(len(group)),
                "hours": f"{group['seconds'].sum() / 3600:.2f}",
                "started": f"{started[0]} to {started[-1]}" if started else "–",
            }
        )
    return Section(title, [table(pd.DataFrame(rows))])


def refusals(results: Sequence[Result]) -> Section:
    """Cells without a measurement, with the reason."""
    rows: list[list[Cell | str]] = [
        [r.cell.title, Cell(r.status, tone="bad"), r.reason or "no reason given"] for r in results if r.status != "done"
    ]
    title = "Refused and failed cells"
    if not rows:
        return Section(title, [Note("None.")])
    lead = "Refused: M2KT said why it cannot do this. Failed: an error; the cell runs again next time."
    blocks: list[Block] = [Table(["cell", "", "reason"], rows)]
    return Section(title, blocks, lead)
