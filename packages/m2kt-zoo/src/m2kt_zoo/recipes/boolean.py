"""Nested formulas reduced inside out: ``(T and F) or not T:`` -> `` F or not T = F or F = F.``

Every step repeats the whole formula with one operation replaced by its value: the leftmost of those whose arguments are
values. A Qwen3 (normalised queries and keys) over characters and whole words.
"""

from __future__ import annotations

import re
from functools import partial

from transformers import PreTrainedTokenizerFast, Qwen3Config

from m2kt_zoo.recipes.common import (
    TeacherRecipe,
    character_tokenizer,
    template_drawer,
    tiny_config,
    truth_module,
)
from m2kt_zoo.recipes.common import build_teacher as build

__all__ = ["RECIPES", "build"]

# One step's operation: a negated value, a bracket around two values, or two values that are the whole formula.
REDUCIBLE = re.compile(r"not ([TF])|\(([TF]) (\w+) ([TF])\)|^([TF]) (\w+) ([TF])$")


def reduced(match: re.Match[str]) -> str:
    truth, parts = truth_module("boolean"), [part for part in match.groups() if part]
    return str(truth.NOT[parts[0]] if len(parts) == 1 else truth.TABLE[parts[1], parts[0], parts[2]])


def completion(prompt: str) -> str:
    formula, steps = prompt.rstrip(":"), []
    while len(formula) > 1:
        formula = REDUCIBLE.sub(reduced, formula, count=1)
        steps.append(formula)
    return f" {' = '.join(steps)}.\n"


def tokenizer() -> PreTrainedTokenizerFast:
    return character_tokenizer("TF ():=.\n", words=("not", *truth_module("boolean").OPERATORS))


config = partial(
    tiny_config,
    Qwen3Config,
    intermediate_size=256,
    num_key_value_heads=2,
    head_dim=32,
    max_position_embeddings=256,
)


RECIPES = (
    TeacherRecipe(
        name="boolean",
        config=config,
        tokenizer=tokenizer,
        draw=template_drawer("boolean", completion),
        summary="Nested boolean formulas, rewritten from the inside out until one value is left.",
        seed=21,
    ),
)
