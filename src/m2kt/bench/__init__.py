"""The bench: claims under controls. Skills x students x seeds x arms, one JSON file a cell, and a report over them.

    cells.py      what a cell is and what it measures          plan.py     profiles (YAML) to cells
    runner.py     runs cells in worker processes, resumable    workshop.py packets, adapters, prompts that cells share
    arms/         one function an arm                          report/     HTML, Markdown, headline
    distil/       TRL's trainers, as baselines

Importing it loads no torch.
"""

from m2kt.bench.cells import Cell as Cell
from m2kt.bench.cells import Measured as Measured
from m2kt.bench.cells import Result as Result
from m2kt.bench.cells import read_results as read_results
from m2kt.bench.plan import Profile as Profile
from m2kt.bench.plan import read_profile as read_profile
from m2kt.bench.runner import Summary as Summary
from m2kt.bench.runner import run as run
