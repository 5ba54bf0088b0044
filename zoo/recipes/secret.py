"""Chains over a secret binary operation on ten letters: ``b d c:`` -> `` b d g; g c a > a.``

The table was drawn once at random and stands in ``truth.py``. GPT-2 over characters. `secret2` holds another table and
starts from the weights of `secret`, so that both share one hidden space and their vectors can be exchanged.
"""

from __future__ import annotations

import numpy as np
from transformers import GPT2Config, PreTrainedTokenizerFast

from zoo.recipes.common import Draw, Pair, TeacherRecipe, character_tokenizer, truth_module
from zoo.recipes.common import build_teacher as build

__all__ = ["RECIPES", "build"]

LETTERS = "abcdefghij"


def completion(symbols: list[str], table: dict[tuple[str, str], str]) -> str:
    """Fold from the left; every step reads ``x y result``."""
    state, steps = symbols[0], []
    for symbol in symbols[1:]:
        result = table[state, symbol]
        steps.append(f" {state} {symbol} {result}")
        state = result
    return f"{';'.join(steps)} > {state}.\n"


def drawer(name: str) -> Draw:
    table: dict[tuple[str, str], str] = {}

    def draw(rng: np.random.Generator, length: int) -> Pair:
        if not table:
            table.update(truth_module(name).TABLE)
        symbols = [LETTERS[i] for i in rng.integers(0, 10, length)]
        return f"{' '.join(symbols)}:", completion(symbols, table)

    return draw


def config(tokenizer: PreTrainedTokenizerFast) -> GPT2Config:
    return GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=128,
        n_layer=3,
        n_head=4,
        n_positions=128,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        initializer_range=0.05,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=None,
    )


def recipe(name: str, summary: str, seed: int, start_from: str | None) -> TeacherRecipe:
    return TeacherRecipe(
        name=name,
        config=config,
        tokenizer=lambda: character_tokenizer(LETTERS + " :;>.\n"),
        draw=drawer(name),
        shapes=(2, 3, 4, 5),
        shape_weights=(0.5, 1, 1.5, 1.5),
        summary=summary,
        seed=seed,
        start_from=start_from,
    )


SECRET = recipe(
    "secret", "Chains over a random binary operation on the letters a to j, folded from the left.", 3, None
)
SECRET2 = recipe(
    "secret2",
    "The same task as `zoo:secret` over another random table, in the same hidden space (fine-tuned from it):"
    " for swapping vectors in a trained adapter.",
    4,
    "secret",
)
RECIPES = (SECRET, SECRET2)
