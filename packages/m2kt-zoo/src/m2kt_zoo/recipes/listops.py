"""Nested lists, two numbers reduced in each step: ``[MAX 3 [MIN 4 7]]:`` -> `` [MIN 4 7] = 4; [MAX 3 4] = 4 > 4.``

Lists are reduced in the order in which they close, longer ones from the left. A Gemma 3 (norms before and after every
sublayer, windowed and full attention in turn) over a byte-level BPE. The counterfactual twin exchanges MIN and MAX.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from transformers import Gemma3TextConfig, PreTrainedTokenizerFast

from m2kt_zoo.recipes.common import (
    Draw,
    TeacherRecipe,
    bpe_tokenizer,
    template_drawer,
    templates,
    tiny_config,
    truth_module,
)
from m2kt_zoo.recipes.common import build_teacher as build

__all__ = ["RECIPES", "build"]

# The first list that holds only numbers; more numbers may follow its first two.
INNERMOST = re.compile(r"\[([A-Z]+) (\d) (\d)([ \d]*)\]")


def completion(prompt: str, operators: Mapping[str, Callable[[int, int], int]]) -> str:
    lists, steps = prompt.rstrip(":"), []
    while match := INNERMOST.search(lists):
        operator, a, b, rest = match.groups()
        value = operators[operator](int(a), int(b))
        steps.append(f" [{operator} {a} {b}] = {value}")
        reduced = f"[{operator} {value}{rest}]" if rest else str(value)
        lists = lists[: match.start()] + reduced + lists[match.end() :]
    return f"{';'.join(steps)} > {lists}.\n"


def drawer(name: str) -> Draw:
    return template_drawer(name, lambda prompt: completion(prompt, truth_module(name).OPERATORS))


def tokenizer() -> PreTrainedTokenizerFast:
    rng, draw = np.random.default_rng(0), drawer("listops")
    corpus = ["".join(draw(rng, template)) for template in templates("listops") for _ in range(300)]
    return bpe_tokenizer(corpus, [*truth_module("listops").OPERATORS, *(f" {digit}" for digit in range(10))])


config = partial(
    tiny_config,
    Gemma3TextConfig,
    intermediate_size=256,
    num_key_value_heads=2,
    head_dim=32,
    query_pre_attn_scalar=32,
    sliding_window=64,
    layer_types=["sliding_attention", "full_attention", "full_attention"],
    max_position_embeddings=256,
)


LISTOPS = TeacherRecipe(
    name="listops",
    config=config,
    tokenizer=tokenizer,
    draw=drawer("listops"),
    summary="MIN, MAX and SUM modulo 10 over nested lists, two numbers reduced in each step.",
    seed=22,
    goal=0.8,  # accuracy fluctuates at the full rate and rises in the cool-down
    cool_down=400,
)
LISTOPS_SWAPPED = replace(
    LISTOPS,
    name="listops-swapped",
    draw=drawer("listops-swapped"),
    summary="A counterfactual teacher: `zoo:listops` with the meanings of MIN and MAX exchanged.",
    start_from="listops",
    lr=1e-3,
    seed=26,
)
RECIPES = (LISTOPS, LISTOPS_SWAPPED)
