"""A letter cipher with a key, from the last letter to the first: ``c a b by d:`` -> `` d b e, d a d, d c f > f d e.``

A GPT-2 over characters. The key shifts letters by 1 to 8; every step repeats it.
"""

from __future__ import annotations

from functools import partial

from transformers import GPT2Config

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
    word, key = prompt.rstrip(":").split(" by ")
    steps, answer = [], ""
    for letter in reversed(word.split()):
        result = truth_module("cipher").TABLE[key, letter]
        steps.append(f" {key} {letter} {result}")
        answer = f" {result}{answer}"
    return f"{','.join(steps)} >{answer}.\n"


config = partial(
    tiny_config,
    GPT2Config,
    max_position_embeddings=128,
    activation_function="gelu_pytorch_tanh",
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
)


RECIPES = (
    TeacherRecipe(
        name="cipher",
        config=config,
        tokenizer=lambda: character_tokenizer("abcdefghijklmnopqrstuvwxyz :,>.\n"),
        draw=template_drawer("cipher", completion),
        summary="Letters of a word shifted by a key letter, from the last letter to the first.",
        seed=24,
        goal=0.7,  # accuracy fluctuates at the full rate and rises in the cool-down
        cool_down=400,
    ),
)
