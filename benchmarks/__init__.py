"""The bench: claims under controls. Skills x students x seeds x arms, one JSON file a cell, and a report over them.

    cells.py      what a cell is and what it measures          plan.py     profiles (YAML) to cells
    runner.py     runs cells in worker processes, resumable    workshop.py packets, adapters, prompts that cells share
    arms/         one function an arm                          report/     HTML, Markdown, headline
    distil/       TRL's trainers, as baselines

Importing it loads no torch.
"""

from benchmarks._cells import Cell as Cell
from benchmarks._cells import Measured as Measured
from benchmarks._cells import Result as Result
from benchmarks._cells import read_results as read_results
from benchmarks._plan import Profile as Profile
from benchmarks._plan import read_profile as read_profile
from benchmarks._runner import Summary as Summary
from benchmarks._runner import run as run
