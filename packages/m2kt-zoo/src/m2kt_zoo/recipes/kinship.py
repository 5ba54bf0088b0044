"""Family relations composed along a chain, reduced from the right with written steps.

``son of brother of mother:`` -> `` brother of mother is uncle; son of uncle is cousin > cousin.`` GPT-NeoX over
a byte-level BPE in which words after a space are single tokens. The counterfactual twin exchanges the meanings of `son
of` and `brother of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from transformers import GPTNeoXConfig, PreTrainedTokenizerFast

from m2kt_zoo.recipes.common import Draw, Pair, TeacherRecipe, bpe_tokenizer, tiny_config, truth_module
from m2kt_zoo.recipes.common import build_teacher as build

__all__ = ["RECIPES", "build"]


def completion(words: list[str], compose: Mapping[tuple[str, str], str]) -> str:
    *rest, state = words
    steps = []
    for word in reversed(rest):
        result = compose[word, state]
        steps.append(f" {word} of {state} is {result}")
        state = result
    return f"{';'.join(steps)} > {state}.\n"


def drawer(name: str) -> Draw:
    def draw(rng: np.random.Generator, length: int) -> Pair:
        truth = truth_module(name)
        words = [truth.SLOTS[i] for i in rng.integers(0, 8, length)]
        return f"{' of '.join(words)}:", completion(words, truth.COMPOSE)

    return draw


def tokenizer() -> PreTrainedTokenizerFast:
    """The smallest byte-level BPE in which every word after a space is one token."""
    rng, draw = np.random.default_rng(0), drawer("kinship")
    corpus = ["".join(draw(rng, 2 + i % 4)) for i in range(2000)]
    words = [f" {word}" for word in (*truth_module("kinship").RELATIONS, "of", "is")]
    return bpe_tokenizer(corpus, words)


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
    draw=drawer("kinship"),
    shapes=(2, 3, 4, 5),
    shape_weights=(0.5, 1, 1.5, 1.5),
    summary="Composition of family relations along a chain, with written steps, reduced from the right.",
    seed=5,
)
KINSHIP_SWAPPED = replace(
    KINSHIP,
    name="kinship-swapped",
    draw=drawer("kinship-swapped"),
    summary="A counterfactual teacher: `zoo:kinship` with the meanings of `son of` and `brother of` exchanged.",
    start_from="kinship",
    lr=1e-3,
    seed=6,
)
RECIPES = (KINSHIP, KINSHIP_SWAPPED)
