"""Five balls under cups that are moved, all of them tracked: ``12345 a e:`` -> `` a 21345; e 32451 > 32451.``

The word problem of S5 from left to right: behind every move stands where each ball is now. A Mistral (attention
within a window) over characters.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

from transformers import MistralConfig, PreTrainedTokenizerFast

from zoo.recipes.common import TeacherRecipe, character_tokenizer, template_drawer, truth_module
from zoo.recipes.common import build_teacher as build

__all__ = ["RECIPES", "build"]


@cache
def truth() -> ModuleType:
    return truth_module("permutation")


def completion(prompt: str) -> str:
    cups, *moves = prompt.rstrip(":").split()
    steps = []
    for move in moves:
        cups = "".join(truth().TABLE[move, cup] for cup in cups)
        steps.append(f" {move} {cups}")
    return f"{';'.join(steps)} > {cups}.\n"


def config(tokenizer: PreTrainedTokenizerFast) -> MistralConfig:
    return MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=48,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=None,
    )


RECIPES = (
    TeacherRecipe(
        name="permutation",
        config=config,
        tokenizer=lambda: character_tokenizer("12345abcdefgh :;>.\n"),
        draw=template_drawer("permutation", completion),
        summary="Tracking five balls under cups that are moved: products of generators of S5, every state written.",
        seed=23,
        goal=0.75,  # accuracy wavers at the full rate; the cool-down does the rest
        cool_down=500,
    ),
)
