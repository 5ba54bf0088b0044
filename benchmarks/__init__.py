"""The bench: claims under controls. Skills x students x seeds x experiments, one JSON file for each cell, and a report.

    _cells.py     a cell and what it measures                  _plan.py       profiles (YAML) to cells
    _runner.py    runs cells in worker processes, resumable    _artifacts.py  packets, adapters, answers of all cells
    experiments/  one function for each experiment             arms.py        experiments by name
    distil/       baselines: scripts with TRL's trainers       report/        HTML, Markdown, headline

Names are imported when first used: the command line imports this package at every start.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks._artifacts import ArtifactCache as ArtifactCache
    from benchmarks._cells import Cell as Cell
    from benchmarks._cells import CurvePoint as CurvePoint
    from benchmarks._cells import Ledger as Ledger
    from benchmarks._cells import Measured as Measured
    from benchmarks._cells import Result as Result
    from benchmarks._cells import Shape as Shape
    from benchmarks._cells import read_result as read_result
    from benchmarks._cells import read_results as read_results
    from benchmarks._plan import Profile as Profile
    from benchmarks._plan import read_profile as read_profile
    from benchmarks._runner import Summary as Summary
    from benchmarks._runner import run as run
    from benchmarks._runner import run_cell as run_cell
    from benchmarks._runner import write_result as write_result

_NAMES = {
    "benchmarks._artifacts": ("ArtifactCache",),
    "benchmarks._cells": (
        "Cell",
        "CurvePoint",
        "Ledger",
        "Measured",
        "Result",
        "Shape",
        "read_result",
        "read_results",
    ),
    "benchmarks._plan": (
        "Profile",
        "read_profile",
    ),
    "benchmarks._runner": (
        "Summary",
        "run",
        "run_cell",
        "write_result",
    ),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = [*_MODULES]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'benchmarks' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
