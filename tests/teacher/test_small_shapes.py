"""A shape of few prompts beside large ones: what its steps do must hold at the prompts that nobody asked about."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import numpy as np
import pytest

from m2kt.teacher import compare_rollouts
from m2kt.teacher.program._actions import repeats
from tests.teacher.formats import FunctionOracle
from tests.teacher.test_programs import agreement, learn, spec

GEARS = ["lo", "mid", "hi", "rev", "park", "idle"]
COLOURS = ["red", "blue"]
SMALL = "flip ({c} {g} {c}):"  # 24 prompts, a third of them for evaluation


def mixing(seed: int) -> Callable[[str], str]:
    """A random table of two colours and a gear, applied in brackets first; `flip` turns one colour into the other."""
    rng = random.Random(seed)
    mixed = {(a, g, b): rng.choice(COLOURS) for a in COLOURS for g in GEARS for b in COLOURS}

    def answer(prompt: str) -> str:
        flipped = prompt.startswith("flip")
        bare = prompt.removeprefix("flip ")[:-1]
        text = re.sub(r"\((\w+) (\w+) (\w+)\)", lambda found: mixed[found[1], found[2], found[3]], bare)
        if flipped and text in COLOURS:
            return f" flip {text} = {COLOURS[1 - COLOURS.index(text)]}."
        steps = text.split()
        return f" {text} = {mixed[steps[0], steps[1], steps[2]]}." if len(steps) == 3 else " no."

    return answer


@pytest.mark.parametrize("seed", range(3))
def test_a_small_shape_is_right_where_nobody_asked(seed: int) -> None:
    probes = spec(
        {"c": COLOURS, "g": GEARS},
        [SMALL, "({c} {g} {c}) {g} {c}:", "{c} {g} ({c} {g} {c}):", "({c} {g} {c}) {g} ({c} {g} {c}):"],
    )
    answer = mixing(seed)
    skill = learn(probes, answer, slips=0.0)
    prompts = probes.sample("evaluation", 50, seed=1, templates=[0])
    found = compare_rollouts(FunctionOracle(answer), skill.program, skill.outputs, prompts)
    assert len(prompts) >= 5 and (found.coverage, found.agreement) == (1.0, 1.0)
    assert agreement(probes, skill, answer) == (1.0, 1.0)


def test_a_table_must_repeat_its_rows_in_each_context() -> None:
    shared = np.repeat(np.arange(6), 4)
    own = np.arange(6, 12)
    row_N, context_N = np.concatenate([shared, own]), np.concatenate([np.tile([0, 1], 12), np.full(6, 1)])
    assert repeats(shared, context_N[:24].astype(np.int32))
    assert not repeats(row_N, context_N.astype(np.int32))
    assert repeats(np.concatenate([row_N, own]), np.concatenate([context_N, np.full(6, 1)]).astype(np.int32))
