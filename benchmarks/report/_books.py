"""The books: what was used, how fast it runs, on which machine, and which cells brought nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence

from benchmarks._cells import Ledger, Result
from benchmarks.report._runs import grouped, headline_runs, mean, missing, places, runs, short
from m2kt.render import Block, Cell, Note, Section, Table


def ledger(results: Sequence[Result]) -> Section:
    """What each transfer used: how "data-free" is counted."""
    title = "Data ledger"
    of = places(headline_runs(results))
    if not of:
        return Section(title, [missing("m2kt")])
    rows: list[list[Cell | str]] = []
    for (student, skill), group in of.items():
        values = (mean(float(getattr(r.measured.ledger, n)) for r in group) for n in Ledger.model_fields)
        rows.append([short(student), skill, *(f"{value or 0:,.0f}" for value in values)])
    head = ["student", "skill", *(name.replace("_", " ") for name in Ledger.model_fields)]
    about: list[list[Cell | str]] = [
        [name.replace("_", " "), f.description] for name, f in Ledger.model_fields.items() if f.description
    ]
    counted = Table(["", ""], about, title="How it is counted", folded=True)
    return Section(title, [Table(head, rows), counted], "The headline arm, v = 0; means over seeds.")


def speed(results: Sequence[Result]) -> Section:
    """Arm ``speed``: whatever numbers it measured."""
    title = "Speed"
    mine = runs(results, "speed")
    if not mine:
        return Section(title, [missing("speed")])
    of = grouped(mine, lambda r: (*r.place, r.cell.seed))
    names = list(dict.fromkeys(name for r in mine for name in r.measured.extra))
    rows: list[list[Cell | str]] = []
    for name in names:
        row: list[Cell | str] = [name.replace("_", " ")]
        for group in of.values():
            value = next((r.measured.extra[name] for r in group if name in r.measured.extra), None)
            row.append(
                "–" if value is None else f"{value:,.4g}" if isinstance(value, int | float) else str(value)
            )
        rows.append(row)
    head = ["", *(f"{skill}, {short(student)}" for student, skill, _ in of)]
    return Section(title, [Table(head, rows)])


def provenance(results: Sequence[Result]) -> Section:
    """Machine, commit, seeds, times."""
    if not results:
        return Section("Where it was measured", [missing("m2kt")])
    rows: list[list[Cell | str]] = []
    machines = grouped(results, lambda r: (json.dumps(r.machine, sort_keys=True, default=str), r.commit))
    for (machine, commit), group in machines.items():
        about = (
            ", ".join(f"{k} {v}" for k, v in json.loads(machine).items() if v is not None) or "not recorded"
        )
        seeds = ", ".join(map(str, sorted({r.cell.seed for r in group})))
        started = sorted(r.started for r in group if r.started)
        when = f"{started[0]} to {started[-1]}" if started else "–"
        hours = f"{sum(r.seconds for r in group) / 3600:.2f}"
        rows.append([about, commit or "–", seeds, str(len(group)), hours, when])
    return Section(
        "Where it was measured", [Table(["machine", "commit", "seeds", "cells", "hours", "started"], rows)]
    )


def refusals(results: Sequence[Result]) -> Section:
    """Cells without a measurement, with the reason."""
    rows: list[list[Cell | str]] = [
        [r.cell.title, Cell(r.status, tone="bad"), r.reason or "no reason given"]
        for r in results
        if r.status != "done"
    ]
    title = "Refused and failed cells"
    if not rows:
        return Section(title, [Note("None.")])
    lead = "Refused: the product said why it cannot do this. Failed: it broke, and is run again next time."
    blocks: list[Block] = [Table(["cell", "", "reason"], rows)]
    return Section(title, blocks, lead)
