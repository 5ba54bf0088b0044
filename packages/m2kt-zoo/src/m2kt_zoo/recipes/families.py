"""More pico students, each of another family, on the generic symbol text (:mod:`m2kt_zoo.recipes.generic`).

They show that one packet serves all families, and are trained briefly: rotary and parallel blocks (GPT-NeoX), sliding
windows (Gemma 3), normalised queries and keys (Qwen3), experts (Mixtral), a state space (Mamba), and a recurrent
network without attention or transformer blocks (GRU); tokens are characters, bytes, or BPE.
"""

from __future__ import annotations

from functools import partial

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    Gemma3TextConfig,
    GPTNeoXConfig,
    MambaConfig,
    MixtralConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from m2kt_zoo._gru import GruLMConfig
from m2kt_zoo.recipes.common import BOS, PAD, UNK, character_tokenizer, tiny_config, wrap_tokenizer
from m2kt_zoo.recipes.generic import CONTEXT, PRINTABLE, StudentRecipe, bpe_tokenizer, build

__all__ = ["RECIPES", "build"]

LAYERS = 4


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte: no unknown tokens, no merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([PAD, BOS, UNK, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.add_special_tokens([PAD, BOS, UNK])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return wrap_tokenizer(backend, max_length=CONTEXT)


def characters() -> PreTrainedTokenizerFast:
    return character_tokenizer(PRINTABLE, max_length=CONTEXT)


neox_config = partial(
    tiny_config,
    GPTNeoXConfig,
    intermediate_size=512,
    num_hidden_layers=LAYERS,
    max_position_embeddings=CONTEXT,
)
gemma3_config = partial(
    tiny_config,
    Gemma3TextConfig,
    intermediate_size=320,
    num_hidden_layers=LAYERS,
    num_key_value_heads=2,
    head_dim=32,
    query_pre_attn_scalar=32,
    sliding_window=64,
    layer_types=["sliding_attention", "full_attention"] * (LAYERS // 2),
    max_position_embeddings=CONTEXT,
)
qwen3_config = partial(
    tiny_config,
    Qwen3Config,
    intermediate_size=320,
    num_hidden_layers=LAYERS,
    num_key_value_heads=2,
    head_dim=32,
    max_position_embeddings=CONTEXT,
)
mixtral_config = partial(
    tiny_config,
    MixtralConfig,
    intermediate_size=160,
    num_hidden_layers=LAYERS,
    num_key_value_heads=2,
    num_local_experts=4,
    num_experts_per_tok=2,
    max_position_embeddings=CONTEXT,
)
mamba_config = partial(tiny_config, MambaConfig, state_size=8, num_hidden_layers=LAYERS)
gru_config = partial(tiny_config, GruLMConfig, num_hidden_layers=LAYERS)

RECIPES = (
    StudentRecipe(name="pico-neox", config=neox_config, tokenizer=byte_tokenizer, seed=13, stop_after=1200),
    StudentRecipe(name="pico-gemma3", config=gemma3_config, tokenizer=bpe_tokenizer, seed=14, stop_after=1200),
    StudentRecipe(name="pico-qwen3", config=qwen3_config, tokenizer=characters, seed=15, stop_after=1200),
    StudentRecipe(name="pico-mixtral", config=mixtral_config, tokenizer=bpe_tokenizer, seed=16, stop_after=1200),
    StudentRecipe(
        name="pico-mamba",
        config=mamba_config,
        tokenizer=characters,
        seed=17,
        stop_after=1200,
        tokens_a_batch=512,  # without compiled kernels the scan is a loop: 15 times the time of the other families
    ),
    StudentRecipe(name="pico-gru", config=gru_config, tokenizer=bpe_tokenizer, seed=18, stop_after=1200),
)
