"""A GGUF file is a model like any other: the same logits, and its own tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m2kt.errors import ModelError
from m2kt.models import load_causal_lm, resolve
from tests.tiny import bpe_tokenizer, tiny_model

gguf = pytest.importorskip("gguf")


def write_llama(path: Path, model: Any, tokenizer: Any) -> None:
    """As llama.cpp's converter does it."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(backend["vocab"], key=backend["vocab"].__getitem__)
    tokens[tokenizer.eos_token_id] = "<|endoftext|>"  # the reader adds one where there is none
    tokens += [f"[PAD{i}]" for i in range(len(tokens), config.vocab_size)]
    merges = [" ".join(m) if isinstance(m, list) else m for m in backend["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(merges)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if t.startswith("<|") else gguf.TokenType.NORMAL for t in tokens]
    )
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_bos_token_id(tokenizer.eos_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        array = tensor.numpy().astype(np.float32)
        for part, heads in (
            ("q_proj", config.num_attention_heads),
            ("k_proj", config.num_key_value_heads),
        ):
            if part in name:  # rotary halves lie side by side there
                array = array.reshape(heads, 2, -1, array.shape[-1]).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@torch.no_grad()
def test_a_gguf_file_gives_the_models_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "home"))
    tokenizer = bpe_tokenizer()
    model = tiny_model("llama", len(tokenizer) + 8).eval()  # more rows than tokens, as many models have
    write_llama(tmp_path / "tiny.gguf", model, tokenizer)
    loaded = load_causal_lm(str(tmp_path / "tiny.gguf"))
    text = "12+34: uncle"
    ids = loaded.tokenizer(text)["input_ids"]
    assert ids == tokenizer(text)["input_ids"]
    found = loaded.model(input_ids=torch.tensor([ids])).logits
    assert torch.allclose(found, model(input_ids=torch.tensor([ids])).logits, atol=1e-4)
    again = resolve(tmp_path / "tiny.gguf")
    assert again == loaded.path and again.is_relative_to(tmp_path / "home")


def test_what_is_no_gguf_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "home"))
    (tmp_path / "x.gguf").write_bytes(b"nothing of the kind, but long enough to be read as a header")
    with pytest.raises(ModelError, match=r"x\.gguf is no GGUF file"):
        resolve(tmp_path / "x.gguf")
    assert not any((tmp_path / "home" / "models").iterdir())
