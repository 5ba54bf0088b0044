"""Results as one DataFrame, a row for each cell, and how groups of its rows are printed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._cells import Cell, Ledger, Result, Shape
from m2kt.render import Cell as TableCell
from m2kt.render import Note, Table, percent, share_cell

DASH = TableCell("–", tone="quiet")
PAIR = ["student", "skill"]
"""The columns that group what is compared with what."""
_MEASURED = (
    "after", "before", "teacher", "retention", "gap_recovered", "agreement", "followed",
    "low", "high", "held_out", "single_steps",
)  # fmt: skip
_COLUMNS = [
    "arm", "skill", "student", "seed", "v", "headline", "options", "title", "status", "reason", "commit",
    "machine", "started", "seconds", "measured", *_MEASURED, *Ledger.model_fields,
]  # fmt: skip


def results_frame(results: Sequence[Result]) -> pd.DataFrame:
    """One row for each result: what was measured, shares and the ledger as numbers, ``measured`` as it is."""
    frame = pd.DataFrame([_row(r) for r in results], columns=_COLUMNS)
    return frame.astype(dict.fromkeys(_MEASURED, float))


def _row(result: Result) -> dict[str, Any]:
    cell, m = result.cell, result.measured
    row: dict[str, Any] = {
        **cell.model_dump(include={"arm", "skill", "student", "seed", "options"}),
        **result.model_dump(include={"status", "reason", "commit", "started", "seconds"}),
        "v": float(cell.options.get("v", 0)),
        "headline": is_headline(cell),
        "title": cell.title,
        "machine": json.dumps(result.machine, sort_keys=True, default=str),
        "measured": m,
    }
    if m is not None:
        low, high = m.interval or (None, None)
        row |= {name: getattr(m, name) for name in _MEASURED[:7]} | m.ledger.model_dump()
        row |= {"low": low, "high": high, "held_out": overall(m.held_out)}
        row["single_steps"] = (m.steps or {}).get("latent")  # on rows that travel as vectors only
    return row


def is_headline(cell: Cell) -> bool:
    """Experiment m2kt at v = 0: no output of a rule is verbalised."""
    return cell.arm == "m2kt" and cell.options.get("v", 0) == 0


def measured(frame: pd.DataFrame, *experiments: str) -> pd.DataFrame:
    """The measured cells of these experiments."""
    return frame[frame["arm"].isin(experiments) & (frame["status"] == "done") & frame["measured"].notna()]


def headline_runs(frame: pd.DataFrame, student: str | None = None, skill: str | None = None) -> pd.DataFrame:
    """The measured cells of the headline experiment, of one student and skill or of all."""
    runs = measured(frame, "m2kt")
    runs = runs[runs["headline"].astype(bool)]
    return of_pair(runs, student, skill)


def of_pair(frame: pd.DataFrame, student: str | None, skill: str | None) -> pd.DataFrame:
    """The rows of one student and one skill; None: of all."""
    if student is not None:
        frame = frame[frame["student"] == student]
    return frame if skill is None else frame[frame["skill"] == skill]


def pairs(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """((student, skill), rows), sorted."""
    for (student, skill), group in frame.groupby(PAIR):
        yield (str(student), str(skill)), group


def column(frame: pd.DataFrame, option: str) -> pd.Series:
    """An option of the cells, None where a cell has none."""
    return pd.Series([o.get(option) for o in frame["options"]], index=frame.index, dtype=object)


def select(frame: pd.DataFrame, mask: list[bool]) -> pd.DataFrame:
    """The rows where ``mask`` is true; a list as index would name columns where the frame is empty."""
    return frame[np.array(mask, dtype=bool)]


def none_if_nan(value: float) -> float | None:
    """None where nothing was measured."""
    return None if pd.isna(value) else float(value)


def overall(shapes: Sequence[Shape]) -> float | None:
    """Accuracy over all prompts of some shapes."""
    n = sum(shape.n for shape in shapes)
    return sum(shape.n * shape.accuracy for shape in shapes) / n if n else None


# -- printing ---------------------------------------------------------------------------------------------------------
def short(student: str) -> str:
    """A model's name without its folders."""
    return student.rstrip("/").rsplit("/", 1)[-1]


def options_text(options: dict[str, Any]) -> str:
    """``lr=0.001, method=sft``."""
    return ", ".join(f"{k}={v}" for k, v in sorted(options.items()))


def share_text(share: float) -> str:
    """``97.5 %``; a dash where nothing was measured."""
    return percent(none_if_nan(share))


def spread_text(values: pd.Series) -> str:
    """``97.5 % (96.0–99.0)``: the mean over seeds and, where they differ, the range."""
    low, high = values.min(), values.max()
    if values.count() <= 1 or high - low < 0.0005:
        return share_text(values.mean())
    return f"{percent(values.mean())} ({100 * low:.1f}–{100 * high:.1f})"


def spread_cell(values: pd.Series) -> TableCell:
    """The mean over seeds as a bar, with the range as text."""
    return share_cell(none_if_nan(values.mean()), spread_text(values)) if values.count() else DASH


def table(frame: pd.DataFrame, **options: Any) -> Table:
    """A DataFrame of texts and cells as a block; a missing entry is a dash, and ``student`` loses its folders."""
    if "student" in frame:
        frame = frame.assign(student=[short(name) if name else "" for name in frame["student"]])
    rows = [
        [entry if isinstance(entry, TableCell | str) else DASH for entry in row]
        for row in frame.itertuples(index=False, name=None)
    ]
    return Table([str(name) for name in frame.columns], rows, **options)


def missing(*experiments: str, what: str = "Not measured yet") -> Note:
    """The line of a section without data: what is missing, and the command that measures it."""
    return Note(f"{what}: m2kt bench run full {' '.join(f'--arm {name}' for name in experiments)}")
