"""Sums of several terms, from left to right as an odometer counts: ``3-7+9:`` -> ``03-7|1=96+9|1=05>+05.``

Behind ``|`` stands what is carried or borrowed, behind ``=`` the running total in two digits. Below zero it goes on
from 99 downwards (the ten's complement), and only the last step turns it into a sign and a number; so every
digit is a function of at most three symbols that were written before. An OLMo 2 (norms behind the sublayers) over
characters.
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
        now = total + int(operator + digit)
        text += f"{operator}{digit}|{abs(now // 10 - total // 10)}={now % 100:02d}"
        total = now
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
        summary="Sums and differences of digits, from left to right, the running total written as an odometer counts.",
        seed=25,
        goal=0.8,  # accuracy wavers at the full rate; the cool-down does the rest
        cool_down=500,
    ),
)
