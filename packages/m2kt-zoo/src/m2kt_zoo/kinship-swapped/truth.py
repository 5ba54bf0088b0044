"""Evaluation only: the answer of this counterfactual teacher to a prompt like ``son of brother of mother:``.

"Son of" has the meaning of "brother of" in `zoo:kinship`, and the reverse.
"""

import runpy
from pathlib import Path

_TRUE = runpy.run_path(str(Path(__file__).resolve().parents[1] / "kinship" / "truth.py"))
SLOTS, RELATIONS = _TRUE["SLOTS"], _TRUE["RELATIONS"]
EXCHANGED = {"son": "brother", "brother": "son"}
COMPOSE = {(word, b): _TRUE["COMPOSE"][EXCHANGED.get(word, word), b] for word, b in _TRUE["COMPOSE"]}


def answer(prompt: str) -> str:
    *rest, state = prompt.rstrip(":").split(" of ")
    for word in reversed(rest):
        state = COMPOSE[word, state]
    return state
