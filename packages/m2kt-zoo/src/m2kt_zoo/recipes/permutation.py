"""Five balls under cups that move, all of them tracked: ``12345 a e:`` -> `` a 21345; e 32451 > 32451.``

The word problem of S5 from left to right. A Mistral (sliding-window attention) over characters.
"""

from __future__ import annotations

from functools import partial

from transformers import MistralConfig

from m2kt_zoo.recipes.common import (
    TeacherRecipe,
    character_tokenizer,
    template_drawer,
    tiny_config,
    truth_module,
)
from m2kt_zoo.recipes.common import build_teacher as build

__all__ = ["RECIPES", "build"]


def completion(prompt: str) -> str:
    table = truth_module("permutation").TABLE
    cups, *moves = prompt.rstrip(":").split()
    steps = []
    for move in moves:
        cups = "".join(table[move, cup] for cup in cups)
        steps.append(f" {move} {cups}")
    return f"{';'.join(steps)} > {cups}.\n"


config = partial(
    tiny_config,
    MistralConfig,
    intermediate_size=256,
    num_key_value_heads=2,
    sliding_window=48,
    max_position_embeddings=256,
)


RECIPES = (
    TeacherRecipe(
        name="permutation",
        config=config,
        tokenizer=lambda: character_tokenizer("12345abcdefgh :;>.\n"),
        draw=template_drawer("permutation", completion),
        summary="Tracking five balls under cups that move: products of generators of S5, every state written.",
        seed=23,
        goal=0.75,  # accuracy fluctuates at the full rate and rises in the cool-down
        cool_down=500,
    ),
)
