"""Write a plain checkpoint as one GGUF file, for llama.cpp and its frontends.

Tensor names are from the ``gguf`` library's table. ``FAMILIES`` has an entry for each supported model type: its
metadata and the tensors that llama.cpp stores in another layout. transformers reads the file back; other tokens or
logits than the model's are an error. Local letter: P probe rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from m2kt.errors import ModelError, explain

from ._gguf import gguf_library, read_gguf
from ._gguf_tokenizer import check_tokenizer, write_tokenizer

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Array = NDArray[np.float32]
_STORED = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_N_PROBES, _PROBE_TOKENS = 4, 24  # random rows on which the file must give the model's logits


@dataclass(frozen=True)
class Family:
    """How a model type is written."""

    arch: str
    """Name of its ``gguf.MODEL_ARCH``."""
    write_metadata: Callable[[GGUFWriter, PreTrainedConfig], None]
    """Writes the configuration (writer, config). Raises ModelError for an option that the format lacks."""
    relayout: Callable[[str, Array, PreTrainedConfig], Array] = lambda name, array, config: array
    """A tensor in llama.cpp's layout (GGUF name, array, config)."""


def write_gguf(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, *, name: str) -> list[str]:
    """Write ``path``, read it back, and return warnings for the user. Matrices keep their type; vectors are float32.

    Args:
        model: a plain causal LM, without adapter.
        name: model name in the metadata.

    Raises:
        ModelError: gguf is not installed; the model type, an option or the tokenizer cannot be written; or the file
            gives other tokens or logits than the model.
    """
    gguf = gguf_library()
    config = model.config.get_text_config()
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise ModelError(
            f"a {config.model_type} model cannot be written as GGUF here: expected one of "
            f"{', '.join(sorted(FAMILIES))}; write an ordinary checkpoint (--format hf), which other converters read"
        )
    writer = gguf.GGUFWriter(path, family.arch.lower())
    writer.add_name(name)
    family.write_metadata(writer, config)
    writer.add_vocab_size(config.vocab_size)
    warnings = write_tokenizer(writer, tokenizer, config.vocab_size, config.model_type)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[family.arch], config.num_hidden_layers)
    for key, parameter in model.named_parameters():  # without a tied head, as the format requires
        tensor_name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if tensor_name is None:
            raise ModelError(
                f"{key} of this {config.model_type} has no name in GGUF's {family.arch.lower()}: the file would "
                "be another model; write an ordinary checkpoint (--format hf)"
            )
        array = family.relayout(tensor_name, parameter.detach().float().cpu().numpy(), config)
        stored = gguf.GGMLQuantizationType[_STORED[parameter.dtype] if array.ndim > 1 else "F32"]
        quantised = gguf.quants.quantize(np.ascontiguousarray(array), stored)
        writer.add_tensor(tensor_name, quantised, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    _check_gguf(path, model, tokenizer)
    return warnings


@torch.no_grad()
def _check_gguf(path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError unless transformers reads the same tokenizer and model from the file."""
    try:
        read_model, read_tokenizer = read_gguf(path, model.dtype)
    except Exception as error:
        raise ModelError(f"{path} was written but transformers does not read it ({explain(error)})") from error
    check_tokenizer(tokenizer, read_tokenizer)
    generator = torch.Generator().manual_seed(0)
    ids_PT = torch.randint(
        0, model.config.get_text_config().vocab_size, (_N_PROBES, _PROBE_TOKENS), generator=generator
    )
    expected_PTV = model(input_ids=ids_PT.to(model.device)).logits.float().cpu()
    got_PTV = read_model.eval()(input_ids=ids_PT).logits.float()
    error_size = float((expected_PTV - got_PTV).abs().max() / expected_PTV.std())
    if not error_size <= (1e-3 if model.dtype == torch.float32 else 0.1):
        raise ModelError(
            f"the GGUF of this {model.config.model_type} gives other logits than the model (off by {error_size:.2g} "
            "of their spread): its configuration has an option that the format does not carry; write --format hf"
        )


# -- families ---------------------------------------------------------------------------------------------------------
def _llama_metadata(writer: GGUFWriter, config: PreTrainedConfig) -> None:
    """Metadata of the Llama-like architectures."""
    rope = dict(config.rope_parameters)
    rope = rope.get("full_attention", rope)
    if rope.get("rope_type", "default") != "default":
        raise ModelError(
            f"RoPE of the type {rope['rope_type']!r} cannot be written as GGUF here: expected 'default'; "
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


def _interleave(name: str, array: Array, config: PreTrainedConfig) -> Array:
    """GGUF stores Llama's two rotary halves interleaved."""
    heads = {".attn_q.": config.num_attention_heads, ".attn_k.": config.num_key_value_heads}
    for key, count in heads.items():
        if key in name:
            return array.reshape(count, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
    return array


def _gemma3_metadata(writer: GGUFWriter, config: PreTrainedConfig) -> None:
    _llama_metadata(writer, config)
    writer.add_sliding_window(config.sliding_window)


def _gemma_norms(name: str, array: Array, config: PreTrainedConfig) -> Array:
    """GGUF stores Gemma's norms as the factor, 1 + weight."""
    return array + 1 if name.endswith("norm.weight") else array


def _gpt2_metadata(writer: GGUFWriter, config: PreTrainedConfig) -> None:
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


def _transpose(name: str, array: Array, config: PreTrainedConfig) -> Array:
    """GPT-2's ``Conv1D`` is a transposed linear layer."""
    conv = ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")
    return array.T if name.endswith(conv) else array


FAMILIES: dict[str, Family] = {
    "llama": Family("LLAMA", _llama_metadata, _interleave),
    "qwen2": Family("QWEN2", _llama_metadata),
    "qwen3": Family("QWEN3", _llama_metadata),
    "gemma3_text": Family("GEMMA3", _gemma3_metadata, _gemma_norms),
    "gpt2": Family("GPT2", _gpt2_metadata, _transpose),
}
