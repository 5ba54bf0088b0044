"""A refusal blames symbols only where prompts with them fail far more often than others."""

from __future__ import annotations

import random
import re
from types import SimpleNamespace
from typing import Any, cast

import pytest

from m2kt.probes import ProbeSpec, Prompt
from m2kt.teacher._fidelity import RolloutComparison, refusal
from m2kt.teacher.program import Skill

SPEC = ProbeSpec.model_validate(
    {"name": "t", "slots": {"x": {"values": list("abcdefghij")}}, "templates": ["{x} {x} {x}:"], "stop": "\n"}
)
PROMPTS = SPEC.sample("probing", 200, seed=0)


def message(wrong: list[Prompt]) -> str:
    skill = cast(Skill, cast(Any, SimpleNamespace(resisted=[])))
    right = [prompt for prompt in PROMPTS if prompt not in wrong]
    return str(refusal(skill, RolloutComparison(right=right, wrong=wrong), 0.9))


def having(symbols: str) -> list[Prompt]:
    return [p for p in PROMPTS if any(unit.symbol is not None and unit.symbol in symbols for unit in p.units)]


@pytest.mark.parametrize("symbols", ["c", "bj", "aeg"])
def test_symbols_that_the_teacher_never_learnt_are_named(symbols: str) -> None:
    n = len(having(symbols))
    found = re.search(rf"{n} of {n} prompts with (.*) fail, and 0 of {200 - n} others", message(having(symbols)))
    assert found is not None and sorted(found[1].split(" or ")) == [repr(symbol) for symbol in symbols]


def test_symbols_are_named_where_other_prompts_fail_now_and_then() -> None:
    wrong = having("c") + random.Random(0).sample([p for p in PROMPTS if p not in having("c")], 8)
    assert re.search(r"prompts with 'c' fail, and 8 of", message(wrong))


def test_failures_all_over_blame_no_symbol() -> None:
    assert "prompts with" not in message(random.Random(0).sample(PROMPTS, 60))
    assert "prompts with" not in message(PROMPTS)
    assert "prompts with" not in message([])
