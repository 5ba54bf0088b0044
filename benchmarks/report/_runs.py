"""Which results belong together: by arm, options, student, skill and seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks._cells import Cell, Measured, Result, Shape
from m2kt.render import Note, percent

T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True)
class Run:
    """A cell that was measured."""

    cell: Cell
    measured: Measured

    @property
    def place(self) -> tuple[str, str]:
        """(student, skill): what is compared with what."""
        return self.cell.student, self.cell.skill


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, and the least and the most of them."""

    mean: float
    low: float
    high: float
    n: int

    def text(self, digits: int = 1) -> str:
        """``97.5 % (96.0–99.0)``; the range only where there is one."""
        if self.n == 1 or self.high - self.low < 0.5 * 10 ** (-2 - digits):
            return percent(self.mean, digits)
        return f"{percent(self.mean, digits)} ({100 * self.low:.{digits}f}–{100 * self.high:.{digits}f})"


def spread(values: Iterable[float | None]) -> Spread | None:
    """None where nothing was measured."""
    found = [v for v in values if v is not None]
    return Spread(sum(found) / len(found), min(found), max(found), len(found)) if found else None


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what was measured."""
    found = spread(values)
    return found.mean if found else None


def runs(results: Sequence[Result], *arms: str) -> list[Run]:
    """Measured cells of these arms."""
    return [
        Run(r.cell, r.measured)
        for r in results
        if r.cell.arm in arms and r.status == "done" and r.measured is not None
    ]


def is_headline(cell: Cell) -> bool:
    """Arm m2kt at v = 0: no rule's output in words."""
    return cell.arm == "m2kt" and cell.options.get("v", 0) == 0


def headline_runs(results: Sequence[Result], student: str | None = None) -> list[Run]:
    """Measured cells of the headline arm, of one student or of all."""
    found = [run for run in runs(results, "m2kt") if is_headline(run.cell)]
    return [run for run in found if student in (None, run.cell.student)]


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Items by key, keys in order of appearance."""
    found: dict[K, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def places(items: Iterable[Run]) -> dict[tuple[str, str], list[Run]]:
    """Runs by student and skill, sorted."""
    return dict(sorted(grouped(items, lambda run: run.place).items()))


def overall(shapes: Sequence[Shape]) -> float | None:
    """Accuracy over all prompts of some shapes."""
    n = sum(shape.n for shape in shapes)
    return sum(shape.n * shape.accuracy for shape in shapes) / n if n else None


def short(student: str) -> str:
    """A model's name without its folders."""
    return student.rstrip("/").rsplit("/", 1)[-1]


def options_text(options: dict[str, Any]) -> str:
    """``lr=0.001, method=sft``."""
    return ", ".join(f"{k}={v}" for k, v in sorted(options.items()))


def missing(*arms: str, what: str = "Not measured yet") -> Note:
    """The line that stands where a section has no data: what is missing, and what fills it."""
    return Note(f"{what}: m2kt bench run full {' '.join(f'--arm {arm}' for arm in arms)}")
