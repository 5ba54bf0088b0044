"""The bench: claims under controls. Skills x students x seeds x experiments, one JSON file for each cell, and a report.

    _cells.py     a cell and what it measures                  _plan.py       profiles (YAML) to cells
    _runner.py    runs cells in worker processes, resumable    _artifacts.py  packets, adapters, answers of all cells
    experiments/  one function for each experiment             arms.py        experiments by name
    distil/       baselines: scripts with TRL's trainers       report/        HTML, Markdown, headline

Importing it loads no torch.
"""

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
