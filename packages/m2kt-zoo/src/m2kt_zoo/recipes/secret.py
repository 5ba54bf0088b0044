"""Chains over a secret binary operation on ten letters: ``b d c:`` -> `` b d g; g c a > a.``

The table is random and lies in ``truth.py``. GPT-2 over characters. `secret2` has another table and starts from the
weights of `secret`, so that both share one hidden space and their vectors can be exchanged.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from transformers import GPT2Config

from m2kt_zoo.recipes.common import Draw, Pair, TeacherRecipe, character_tokenizer, tiny_config, truth_module
from m2kt_zoo.recipes.common import build_teacher as build

__all__ = ["RECIPES", "build"]

LETTERS = "abcdefghij"


def completion(symbols: list[str], table: dict[tuple[str, str], str]) -> str:
    """Fold from the left; every step is ``x y result``."""
    state, steps = symbols[0], []
    for symbol in symbols[1:]:
        result = table[state, symbol]
        steps.append(f" {state} {symbol} {result}")
        state = result
    return f"{';'.join(steps)} > {state}.\n"


def drawer(name: str) -> Draw:
    def draw(rng: np.random.Generator, length: int) -> Pair:
        symbols = [LETTERS[i] for i in rng.integers(0, 10, length)]
        return f"{' '.join(symbols)}:", completion(symbols, truth_module(name).TABLE)

    return draw


config = partial(
    tiny_config,
    GPT2Config,
    max_position_embeddings=128,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
)


SECRET = TeacherRecipe(
    name="secret",
    config=config,
    tokenizer=lambda: character_tokenizer(LETTERS + " :;>.\n"),
    draw=drawer("secret"),
    shapes=(2, 3, 4, 5),
    shape_weights=(0.5, 1, 1.5, 1.5),
    summary="Chains over a random binary operation on the letters a to j, folded from the left.",
    seed=3,
)
SECRET2 = replace(
    SECRET,
    name="secret2",
    draw=drawer("secret2"),
    summary="The same task as `zoo:secret` over another random table, in the same hidden space (fine-tuned from it):"
    " for replacing the bank of a trained adapter.",
    start_from="secret",
    seed=4,
)
RECIPES = (SECRET, SECRET2)
