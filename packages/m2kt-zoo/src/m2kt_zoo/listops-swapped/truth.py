"""Evaluation only: what this counterfactual teacher should say to nested lists like ``[MAX 3 [MIN 4 7]]:``.

MIN is what `zoo:listops` calls MAX, and the other way round.
"""

import re
import runpy
from pathlib import Path

_TRUE = runpy.run_path(str(Path(__file__).resolve().parents[1] / "listops" / "truth.py"))
EXCHANGED = {"MIN": "MAX", "MAX": "MIN"}
OPERATORS = {name: _TRUE["OPERATORS"][EXCHANGED.get(name, name)] for name in _TRUE["OPERATORS"]}


def answer(prompt: str) -> str:
    """The true value of the lists with MIN and MAX exchanged."""
    return _TRUE["answer"](re.sub("MIN|MAX", lambda found: EXCHANGED[found[0]], prompt))
