"""A GGUF file is a model like any other: the same logits, and its own tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m2kt.errors import ModelError
from m2kt.models import load_causal_lm, resolve, write_gguf
from tests.tiny import bpe_tokenizer, char_tokenizer, metaspace_tokenizer, tiny_model

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


TOKENIZERS = {"bytes": bpe_tokenizer, "pieces": metaspace_tokenizer, "characters": char_tokenizer}


@torch.no_grad()
@pytest.mark.parametrize("words", TOKENIZERS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_what_is_written_is_what_is_read(
    family: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "home"))
    tokenizer = TOKENIZERS[words]()
    model = tiny_model(family, len(tokenizer) + 8)
    notes = write_gguf(model, tokenizer, tmp_path / "x.gguf", name="x")
    assert [n for n in notes if "merges" in n] == (notes if words == "characters" else [])
    loaded = load_causal_lm(str(tmp_path / "x.gguf"))
    ids = torch.tensor([tokenizer("12+34: uncle")["input_ids"]])
    assert loaded.tokenizer("12+34: uncle")["input_ids"] == ids[0].tolist()
    assert torch.allclose(loaded.model(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-4)


def test_the_writer_agrees_with_another_one(tmp_path: Path) -> None:
    tokenizer = bpe_tokenizer()
    model = tiny_model("llama", len(tokenizer)).eval()
    write_llama(tmp_path / "theirs.gguf", model, tokenizer)
    write_gguf(model, tokenizer, tmp_path / "ours.gguf", name="x")
    ours, theirs = (
        {t.name: t.data for t in gguf.GGUFReader(tmp_path / f"{who}.gguf").tensors}
        for who in ("ours", "theirs")
    )
    for name, array in ours.items():  # theirs writes the tied head once more
        assert np.array_equal(array, theirs[name]), name


@pytest.mark.parametrize(
    ("family", "says"),
    [
        ("neox", "a gpt_neox model cannot be written as GGUF"),
        ("mamba", "a mamba model cannot be written as GGUF"),
        (
            "gemma3",
            "gives other logits than the model",
        ),  # this one squeezes its logits, which GGUF cannot say
    ],
)
def test_what_gguf_cannot_say_is_refused(family: str, says: str, tmp_path: Path) -> None:
    tokenizer = bpe_tokenizer()
    with pytest.raises(ModelError, match=says):
        write_gguf(tiny_model(family, len(tokenizer)), tokenizer, tmp_path / "x.gguf", name="x")


@torch.no_grad()
@pytest.mark.optional
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_llama_cpp_writes_the_same(family: str, tmp_path: Path) -> None:
    xllamacpp = pytest.importorskip("xllamacpp")
    tokenizer, text = bpe_tokenizer(), "12+34: uncle"
    model = tiny_model(family, len(tokenizer)).eval()
    write_gguf(model, tokenizer, tmp_path / "x.gguf", name="x")
    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.warmup = str(tmp_path / "x.gguf"), 64, False
    asked = {"prompt": text, "n_predict": 12, "temperature": 0}
    said = xllamacpp.Server(parameters).handle_completions(asked)
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    assert said["usage"]["prompt_tokens"] == ids.shape[1]
    out = model.generate(input_ids=ids, max_new_tokens=12, do_sample=False, pad_token_id=0)
    assert said["choices"][0]["text"] == tokenizer.decode(out[0, ids.shape[1] :])


def test_what_is_no_gguf_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "home"))
    (tmp_path / "x.gguf").write_bytes(b"nothing of the kind, but long enough to be read as a header")
    with pytest.raises(ModelError, match=r"x\.gguf is no GGUF file"):
        resolve(tmp_path / "x.gguf")
    assert not any((tmp_path / "home" / "models").iterdir())
