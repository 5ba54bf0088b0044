"""Tasks as plain functions through extraction: does one program come out, and does it hold at any length?

python -m benchmarks.symbolic [FILE.py] [--json]

tasks/          the shipped suite: one file a family         _teacher.py     a function as a perfect teacher
_door.py        files of tasks, running, what is printed     _pens.py        how a task is written unit by unit
_evaluation.py  fresh prompts, random and all alike
"""

from benchmarks.symbolic._door import Outcome as Outcome
from benchmarks.symbolic._door import Task as Task
from benchmarks.symbolic._door import load_file as load_file
from benchmarks.symbolic._door import run as run
from benchmarks.symbolic._door import run_task as run_task
from benchmarks.symbolic._door import shipped as shipped
from benchmarks.symbolic._evaluation import alike_prompts as alike_prompts
from benchmarks.symbolic._evaluation import fresh_prompts as fresh_prompts
from benchmarks.symbolic._pens import Pen as Pen
from benchmarks.symbolic._pens import Writer as Writer
from benchmarks.symbolic._pens import written as written
from benchmarks.symbolic._teacher import FunctionTeacher as FunctionTeacher
