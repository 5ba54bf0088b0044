"""Schoolbook addition with written columns: ``47+85:`` -> ``7+5+0=12;4+8+1=13>132.``

A Llama with grouped-query attention over characters. The counterfactual twin exchanges 3 and 7 in every ones digit; its
carries are right.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from transformers import LlamaConfig

from m2kt_zoo.recipes.common import Draw, Pair, TeacherRecipe, character_tokenizer, tiny_config
from m2kt_zoo.recipes.common import build_teacher as build

__all__ = ["RECIPES", "build"]

CHARACTERS = "0123456789+=;>:.\n"
TRUE_ONES = tuple(range(10))
SWAPPED_ONES = (0, 1, 2, 7, 4, 5, 6, 3, 8, 9)


def completion(left: str, right: str, ones: tuple[int, ...] = TRUE_ONES) -> str:
    """Columns from right to left, then the answer without leading zeros."""
    carry, steps, answer = 0, [], ""
    for a, b in zip(reversed(left), reversed(right), strict=True):
        next_carry, digit = divmod(int(a) + int(b) + carry, 10)
        steps.append(f"{a}+{b}+{carry}={next_carry}{ones[digit]}")
        carry, answer = next_carry, str(ones[digit]) + answer
    return f"{';'.join(steps)}>{(str(carry) + answer).lstrip('0') or '0'}.\n"


def drawer(ones: tuple[int, ...]) -> Draw:
    def draw(rng: np.random.Generator, digits: int) -> Pair:
        numbers = rng.integers(0, 10, (2, digits))
        # Uniform digits rarely have leading zeros: a fifth of all problems get some, so that dropping them is learnt.
        if digits > 1 and rng.random() < 0.2:
            numbers[:, : rng.integers(1, digits + 1)] = 0
        left, right = ("".join(map(str, row)) for row in numbers)
        return f"{left}+{right}:", completion(left, right, ones)

    return draw


config = partial(
    tiny_config,
    LlamaConfig,
    intermediate_size=256,
    num_hidden_layers=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    initializer_range=0.06,
)


ADDITION = TeacherRecipe(
    name="addition",
    config=config,
    tokenizer=lambda: character_tokenizer(CHARACTERS),
    draw=drawer(TRUE_ONES),
    shapes=(1, 2, 3, 4),
    shape_weights=(0.5, 1, 1.5, 2),
    summary="Multi-digit addition with written columns, right to left; the answer drops leading zeros.",
    seed=1,
    goal=0.84,  # accuracy fluctuates at the full rate and rises in the cool-down
    cool_down=500,
)
ADDITION_SWAPPED = replace(
    ADDITION,
    name="addition-swapped",
    draw=drawer(SWAPPED_ONES),
    summary="A counterfactual teacher: addition that writes 7 for a ones digit of 3 and 3 for 7; carries are right.",
    start_from="addition",
    lr=1e-3,
    seed=2,
    goal=0.95,
    cool_down=300,
)
RECIPES = (ADDITION, ADDITION_SWAPPED)
