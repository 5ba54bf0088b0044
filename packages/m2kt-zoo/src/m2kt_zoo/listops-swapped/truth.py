"""Evaluation only: the answer of this counterfactual teacher to nested lists like ``[MAX 3 [MIN 4 7]]:``.

MIN has the meaning of MAX in `zoo:listops`, and the reverse.
"""

import re
import runpy
from pathlib import Path

_TRUE = runpy.run_path(str(Path(__file__).resolve().parents[1] / "listops" / "truth.py"))
EXCHANGED = {"MIN": "MAX", "MAX": "MIN"}
OPERATORS = {name: _TRUE["OPERATORS"][EXCHANGED.get(name, name)] for name in _TRUE["OPERATORS"]}


def answer(prompt: str) -> str:
    """The true value of the lists with MIN and MAX exchanged."""
    return _TRUE["answer"](re.sub("MIN|MAX", lambda match: EXCHANGED[match[0]], prompt))
