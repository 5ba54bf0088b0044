"""GGUF files: the model's logits and tokenizer, read and written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
    """Write a Llama as llama.cpp's converter does."""
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
    tokens[tokenizer.eos_token_id] = "<|endoftext|>"  # GGUF readers add this token if it is missing
    tokens += [f"[PAD{i}]" for i in range(len(tokens), config.vocab_size)]
    merges = [" ".join(m) if isinstance(m, list) else m for m in backend["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(merges)
    writer.add_token_types([gguf.TokenType.CONTROL if t.startswith("<|") else gguf.TokenType.NORMAL for t in tokens])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_bos_token_id(tokenizer.eos_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        array = tensor.numpy().astype(np.float32)
        for part, heads in (
            ("q_proj", config.num_attention_heads),
            ("k_proj", config.num_key_value_heads),
        ):
            if part in name:  # GGUF stores rotary halves interleaved
                array = array.reshape(heads, 2, -1, array.shape[-1]).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@torch.no_grad()
def test_a_gguf_file_has_the_logits_of_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "home"))
    tokenizer = bpe_tokenizer()
    model = tiny_model("llama", len(tokenizer) + 8).eval()  # more rows than tokens, as many models have
    write_llama(tmp_path / "tiny.gguf", model, tokenizer)
    loaded = load_causal_lm(str(tmp_path / "tiny.gguf"))
    text = "12+34: uncle"
    ids = loaded.tokenizer(text)["input_ids"]
    assert ids == tokenizer(text)["input_ids"]
    logits = loaded.model(input_ids=torch.tensor([ids])).logits
    assert torch.allclose(logits, model(input_ids=torch.tensor([ids])).logits, atol=1e-4)
    resolved = resolve(tmp_path / "tiny.gguf")
    assert resolved == loaded.path and resolved.is_relative_to(tmp_path / "home")


TOKENIZERS = {"bytes": bpe_tokenizer, "pieces": metaspace_tokenizer, "characters": char_tokenizer}


@torch.no_grad()
@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_a_written_file_loads_as_the_same_model(
    family: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "home"))
    tokenizer = TOKENIZERS[kind]()
    model = tiny_model(family, len(tokenizer) + 8)
    warnings = write_gguf(model, tokenizer, tmp_path / "x.gguf", name="x")
    assert [w for w in warnings if "merges" in w] == (warnings if kind == "characters" else [])
    loaded = load_causal_lm(str(tmp_path / "x.gguf"))
    ids = torch.tensor([tokenizer("12+34: uncle")["input_ids"]])
    assert loaded.tokenizer("12+34: uncle")["input_ids"] == ids[0].tolist()
    assert torch.allclose(loaded.model(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-4)


def test_written_tensors_equal_those_of_a_reference_writer(tmp_path: Path) -> None:
    tokenizer = bpe_tokenizer()
    model = tiny_model("llama", len(tokenizer)).eval()
    write_llama(tmp_path / "reference.gguf", model, tokenizer)
    write_gguf(model, tokenizer, tmp_path / "written.gguf", name="x")
    written, reference = (
        {t.name: t.data for t in gguf.GGUFReader(tmp_path / f"{stem}.gguf").tensors}
        for stem in ("written", "reference")
    )
    for name, array in written.items():  # the reference contains the tied head, too
        assert np.array_equal(array, reference[name]), name


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("neox", "a gpt_neox model cannot be written as GGUF"),
        ("mamba", "a mamba model cannot be written as GGUF"),
        ("gemma3", "gives other logits than the model"),  # with soft-capping, which GGUF has no field for
    ],
)
def test_a_model_that_gguf_cannot_express_is_refused(family: str, message: str, tmp_path: Path) -> None:
    tokenizer = bpe_tokenizer()
    with pytest.raises(ModelError, match=message):
        write_gguf(tiny_model(family, len(tokenizer)), tokenizer, tmp_path / "x.gguf", name="x")


@torch.no_grad()
@pytest.mark.optional
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_llama_cpp_generates_the_same_tokens(family: str, tmp_path: Path) -> None:
    xllamacpp = pytest.importorskip("xllamacpp")
    tokenizer, text = bpe_tokenizer(), "12+34: uncle"
    model = tiny_model(family, len(tokenizer)).eval()
    write_gguf(model, tokenizer, tmp_path / "x.gguf", name="x")
    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.warmup = str(tmp_path / "x.gguf"), 64, False
    request = {"prompt": text, "n_predict": 12, "temperature": 0}
    answer = xllamacpp.Server(parameters).handle_completions(request)
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    assert answer["usage"]["prompt_tokens"] == ids.shape[1]
    out = model.generate(input_ids=ids, max_new_tokens=12, do_sample=False, pad_token_id=0)
    assert answer["choices"][0]["text"] == tokenizer.decode(out[0, ids.shape[1] :])


def test_a_file_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "home"))
    (tmp_path / "x.gguf").write_bytes(b"nothing of the kind, but long enough to be read as a header")
    with pytest.raises(ModelError, match=r"x\.gguf is no GGUF file"):
        resolve(tmp_path / "x.gguf")
    assert not any((tmp_path / "home" / "models").iterdir())


BLOCKED = """
import sys
sys.modules[{module!r}] = None
from pathlib import Path
from m2kt.errors import ModelError
from m2kt.models import {call}
try:
    {call}({arguments})
except ModelError as error:
    assert error.exit_code == 4
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "call", "arguments"),
    [
        ("gguf", "resolve", "sys.argv[1]"),
        ("gguf", "write_gguf", "None, None, Path(sys.argv[1]), name='x'"),
        ("accelerate", "load_causal_lm", "'zoo:secret', device_map='auto'"),
    ],
)
@pytest.mark.long
def test_a_missing_optional_package_is_named(module: str, call: str, arguments: str, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    code = BLOCKED.format(module=module, call=call, arguments=arguments)
    environment = os.environ | {"M2KT_HOME": str(tmp_path)}
    process = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.gguf")],
        capture_output=True,
        text=True,
        env=environment,
    )
    extra = {"gguf": "gguf", "accelerate": "device-map"}[module]
    expected = f"needs {module}, which is not installed: pip install 'm2kt[{extra}]'"
    assert expected in process.stdout, process.stderr
