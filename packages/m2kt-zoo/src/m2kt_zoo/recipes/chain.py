"""Sums of several terms, from left to right: ``3-7+9:`` -> ``03-7|1=96+9|1=05>+05.``

After ``|`` follows the carry or borrow, after ``=`` the running total in two digits, below zero as ten's complement.
Only the last step writes a sign and a number, so that every digit is a function of at most three earlier symbols. An
OLMo 2 (norms after the sublayers) over characters.
"""

from __future__ import annotations

from functools import partial

from transformers import Olmo2Config

from m2kt_zoo.recipes.common import TeacherRecipe, character_tokenizer, template_drawer, tiny_config
from m2kt_zoo.recipes.common import build_teacher as build

__all__ = ["RECIPES", "build"]

CHARACTERS = "0123456789+-|=>:.\n"


def completion(prompt: str) -> str:
    total = int(prompt[0])
    text = f"{total:02d}"
    for operator, digit in zip(prompt[1:-1:2], prompt[2::2], strict=True):
        before, total = total, total + int(operator + digit)
        text += f"{operator}{digit}|{abs(total // 10 - before // 10)}={total % 100:02d}"
    return f"{text}>{total:+03d}.\n"


config = partial(
    tiny_config,
    Olmo2Config,
    intermediate_size=256,
    num_key_value_heads=4,
    max_position_embeddings=128,
)


RECIPES = (
    TeacherRecipe(
        name="chain",
        config=config,
        tokenizer=lambda: character_tokenizer(CHARACTERS),
        draw=template_drawer("chain", completion),
        summary="Sums and differences of digits, from left to right, with the running total in ten's complement.",
        seed=25,
        goal=0.8,  # accuracy fluctuates at the full rate and rises in the cool-down
        cool_down=500,
    ),
)
