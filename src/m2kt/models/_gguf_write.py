"""A plain checkpoint as one GGUF file, for llama.cpp and what is built on it.

Names come from the ``gguf`` library's own table. A family needs an entry in ``FAMILIES`` for what its metadata says and
for what llama.cpp keeps in another layout; a family without one is refused by name. Nothing is taken on trust: the
file is read back by transformers, and it is an error unless tokens and logits are the model's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, get_tensor_name_map
from gguf.quants import quantize
from numpy.typing import NDArray

from m2kt.errors import ModelError, explain

from ._gguf import read_gguf
from ._gguf_words import check_words, write_words

Array = NDArray[Any]
_STORED = {
    torch.float32: GGMLQuantizationType.F32,
    torch.float16: GGMLQuantizationType.F16,
    torch.bfloat16: GGMLQuantizationType.BF16,
}
_PROBES, _LENGTH = 4, 24  # random rows on which a file must give the model's logits


@dataclass(frozen=True)
class Family:
    """What is particular to an architecture."""

    arch: MODEL_ARCH
    describe: Callable[[GGUFWriter, Any], None]
    """Writes the metadata that a configuration holds. Raises ModelError for what the format cannot say."""
    turn: Callable[[str, Array, Any], Array] = lambda name, array, config: array
    """A tensor in the layout that llama.cpp keeps it in, by its GGUF name."""


def write_gguf(model: Any, tokenizer: Any, path: Path, *, name: str) -> list[str]:
    """Writes ``path`` and reads it back. Matrices keep the type that they are held in; vectors are float32.

    Args:
        model: a plain causal LM of transformers, no adapter on it.
        name: what the file calls itself.

    Returns what a user should know, a line each.

    Raises:
        ModelError: an architecture, an option or a tokenizer that GGUF or our table of families does not know, or a
            file that does not give the model's tokens and logits when it is read.
    """
    config = model.config.get_text_config()
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise ModelError(
            f"a {config.model_type} model cannot be written as GGUF here: expected one of "
            f"{', '.join(sorted(FAMILIES))}; write an ordinary checkpoint (--format hf), which other converters read"
        )
    writer = GGUFWriter(path, family.arch.name.lower())
    writer.add_name(name)
    family.describe(writer, config)
    writer.add_vocab_size(config.vocab_size)
    notes = write_words(writer, tokenizer, config.vocab_size, config.model_type)
    names = get_tensor_name_map(family.arch, config.num_hidden_layers)
    for ours, parameter in model.named_parameters():  # a tied head is not among them, as the format has it
        theirs = names.get_name(ours, try_suffixes=(".weight", ".bias"))
        if theirs is None:
            raise ModelError(
                f"{ours} of this {config.model_type} has no name in GGUF's {family.arch.name.lower()}: the file would "
                "be another model; write an ordinary checkpoint (--format hf)"
            )
        array = family.turn(theirs, parameter.detach().float().cpu().numpy(), config)
        stored = _STORED[parameter.dtype] if array.ndim > 1 else GGMLQuantizationType.F32
        writer.add_tensor(theirs, quantize(np.ascontiguousarray(array), stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    _check_gguf(path, model, tokenizer)
    return notes


@torch.no_grad()
def _check_gguf(path: Path, model: Any, tokenizer: Any) -> None:
    """Raises ModelError unless transformers reads the same model out of the file."""
    try:
        read, words = read_gguf(path, model.dtype)
    except Exception as error:
        raise ModelError(
            f"{path} was written but transformers does not read it ({explain(error)})"
        ) from error
    check_words(tokenizer, words)
    generator = torch.Generator().manual_seed(0)
    ids_BT = torch.randint(
        0, model.config.get_text_config().vocab_size, (_PROBES, _LENGTH), generator=generator
    )
    want_BTV = model(input_ids=ids_BT.to(model.device)).logits.float().cpu()
    came_BTV = read.eval()(input_ids=ids_BT).logits.float()
    off = float((want_BTV - came_BTV).abs().max() / want_BTV.std())
    if not off <= (1e-3 if model.dtype == torch.float32 else 0.1):
        raise ModelError(
            f"the GGUF of this {model.config.model_type} gives other logits than the model (off by {off:.2g} of their "
            "spread): its configuration has an option that the format does not carry; write --format hf"
        )


# -- families ---------------------------------------------------------------------------------------------------------
def _decoder(writer: GGUFWriter, config: Any) -> None:
    """What Llama and its kin say of themselves."""
    rope = dict(config.rope_parameters)
    rope = rope.get("full_attention", rope)
    if rope.get("rope_type", "default") != "default":
        raise ModelError(
            f"positions of the kind {rope['rope_type']!r} are not written as GGUF here: expected 'default'; "
            "write an ordinary checkpoint (--format hf)"
        )
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _interleave(name: str, array: Array, config: Any) -> Array:
    """Llama's rotary halves lie side by side in GGUF."""
    heads = {".attn_q.": config.num_attention_heads, ".attn_k.": config.num_key_value_heads}
    for part, count in heads.items():
        if part in name:
            return array.reshape(count, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
    return array


def _gemma3(writer: GGUFWriter, config: Any) -> None:
    _decoder(writer, config)
    writer.add_sliding_window(config.sliding_window)


def _norms_from_one(name: str, array: Array, config: Any) -> Array:
    """Gemma's norms are kept as what they multiply by."""
    return array + 1 if name.endswith("norm.weight") else array


def _gpt2(writer: GGUFWriter, config: Any) -> None:
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


def _transpose(name: str, array: Array, config: Any) -> Array:
    """GPT-2's ``Conv1D`` is a transposed linear layer."""
    conv = ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")
    return array.T if name.endswith(conv) else array


FAMILIES: dict[str, Family] = {
    "llama": Family(MODEL_ARCH.LLAMA, _decoder, _interleave),
    "qwen2": Family(MODEL_ARCH.QWEN2, _decoder),
    "qwen3": Family(MODEL_ARCH.QWEN3, _decoder),
    "gemma3_text": Family(MODEL_ARCH.GEMMA3, _gemma3, _norms_from_one),
    "gpt2": Family(MODEL_ARCH.GPT2, _gpt2, _transpose),
}
