"""Family relations composed along a chain, reduced from the right with written steps.

``son of brother of mother:`` -> `` brother of mother is uncle; son of uncle is cousin > cousin.`` GPT-NeoX over
a byte-level BPE in which words behind a space are single tokens.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from transformers import GPTNeoXConfig, PreTrainedTokenizerFast

from zoo.recipes.common import Pair, TeacherRecipe, bpe_tokenizer, tiny_config, truth_module
from zoo.recipes.common import build_teacher as build

__all__ = ["RECIPES", "build"]


def completion(words: list[str]) -> str:
    *rest, state = words
    steps = []
    for word in reversed(rest):
        result = truth_module("kinship").COMPOSE[word, state]
        steps.append(f" {word} of {state} is {result}")
        state = result
    return f"{';'.join(steps)} > {state}.\n"


def draw(rng: np.random.Generator, length: int) -> Pair:
    words = [truth_module("kinship").SLOTS[i] for i in rng.integers(0, 8, length)]
    return f"{' of '.join(words)}:", completion(words)


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on the corpus, as small as makes every word behind a space one token."""
    rng = np.random.default_rng(0)
    corpus = ["".join(draw(rng, 2 + i % 4)) for i in range(2000)]
    wanted = [f" {word}" for word in (*truth_module("kinship").RELATIONS, "of", "is")]
    return bpe_tokenizer(corpus, wanted)


config = partial(
    tiny_config,
    GPTNeoXConfig,
    intermediate_size=448,
    max_position_embeddings=128,
)


KINSHIP = TeacherRecipe(
    name="kinship",
    config=config,
    tokenizer=tokenizer,
    draw=draw,
    shapes=(2, 3, 4, 5),
    shape_weights=(0.5, 1, 1.5, 1.5),
    summary="Composition of family relations along a chain, with written steps, reduced from the right.",
    seed=5,
)
RECIPES = (KINSHIP,)
