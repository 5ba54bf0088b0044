"""Resolving and loading models: all families, and every refusal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from m2kt.errors import ModelError
from m2kt.models import (
    blocks,
    context_length,
    digest_of_model,
    linear_projections,
    list_zoo,
    load_causal_lm,
    resolve,
    width,
)
from tests.tiny import FAMILIES, WITH_ATTENTION, bpe_tokenizer, char_tokenizer, save_tiny


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads_with_blocks_width_and_projections(family: str, tmp_path: Path) -> None:
    attn = "eager" if family in WITH_ATTENTION else None
    loaded = load_causal_lm(save_tiny(tmp_path / "m", family, char_tokenizer()), attn=attn)
    assert (len(blocks(loaded.model)), width(loaded.model)) == (3, 32)
    assert context_length(loaded.model) == 128 if family in WITH_ATTENTION else context_length(loaded.model) > 10**6
    assert loaded.model.dtype == torch.float32 and not loaded.model.training
    assert loaded.tokenizer.padding_side == "left"
    projections = linear_projections(blocks(loaded.model)[0])
    assert len(projections) >= (2 if family == "gru" else 4)
    assert all(module.weight.ndim == 2 for module in projections.values())


def test_blocks_are_found_under_adapters_and_when_wrapped(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    loaded = load_causal_lm(save_tiny(tmp_path / "m", "llama", char_tokenizer()))
    plain = blocks(loaded.model)

    class Wrapped(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner
            self.extras = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))

        def forward(self, *args: object, **kwargs: object) -> object:
            return self.inner(*args, **kwargs)

    plain[1] = Wrapped(plain[1])
    assert blocks(loaded.model) is plain
    adapted = get_peft_model(loaded.model, LoraConfig(target_modules=["q_proj"]))
    assert blocks(adapted) is plain


def test_the_decoder_stack_is_the_one_that_states_flow_through(tmp_path: Path) -> None:
    model = load_causal_lm(save_tiny(tmp_path / "m", "gpt2", char_tokenizer())).model
    # a wider ModuleList of the same length that the forward pass does not run
    model.tower = torch.nn.ModuleList(torch.nn.Linear(200, 200) for _ in range(3))
    assert blocks(model) is model.transformer.h


def test_digest_follows_weights_and_tokenizer_but_not_the_readme(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "m", "gpt2", char_tokenizer())
    first = digest_of_model(path)
    (path / "README.md").write_text("hello")
    assert digest_of_model(path) == first
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "model.safetensors").write_bytes(content)
    second = digest_of_model(path)
    assert second != first
    (path / "tokenizer.json").write_text((path / "tokenizer.json").read_text() + " ")
    assert digest_of_model(path) not in (first, second)


def test_a_missing_pad_token_is_chosen_and_noted(tmp_path: Path) -> None:
    loaded = load_causal_lm(save_tiny(tmp_path / "m", "gpt2", bpe_tokenizer()))
    assert loaded.tokenizer.pad_token == "<|end|>"
    assert "eos_token pads" in loaded.notes[0]


def test_dtype_and_device_are_honoured(tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "m", "qwen2", char_tokenizer())
    assert load_causal_lm(path, dtype="bf16", device="cpu").model.dtype == torch.bfloat16
    assert load_causal_lm(path, device_map="auto").model.dtype == torch.float32
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="this machine has"):
            load_causal_lm(path, device="cuda")
    with pytest.raises(ModelError, match="expected a device"):
        load_causal_lm(path, device="abacus")


@pytest.mark.parametrize("native", [True, False])
def test_large_models_are_loaded_in_bf16_only_if_the_cpu_computes_it(
    native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("m2kt.models._precision._TINY", 0)  # every model counts as large
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native}, raising=False)
    path = save_tiny(tmp_path / "m", "llama", char_tokenizer())
    expected = torch.bfloat16 if native else torch.float32
    assert load_causal_lm(path, device="cpu").model.dtype == expected


def test_a_teacher_made_on_this_machine_has_a_zoo_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path))
    save_tiny(tmp_path / "zoo" / "custom", "llama", char_tokenizer())
    assert resolve("zoo:custom") == tmp_path / "zoo" / "custom"
    assert {"custom", "secret"} <= set(list_zoo())


class TestRefusals:
    def test_unknown_names(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="no model zoo:nothing"):
            resolve("zoo:nothing")
        with pytest.raises(ModelError, match="no model zoo:\\.\\./x"):
            resolve("zoo:../x")
        with pytest.raises(ModelError, match="no such model directory"):
            resolve("./nowhere")
        with pytest.raises(ModelError, match="the Hub did not give it"):
            resolve("someone/something")
        monkeypatch.setenv("M2KT_HOME", str(tmp_path))
        with pytest.raises(ModelError, match="run `m2kt models get smollm2-135m`"):
            resolve("smollm2-135m")

    def test_foreign_directories(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"expected config\.json"):
            load_causal_lm(tmp_path)
        (tmp_path / "config.json").write_text("{")
        with pytest.raises(ModelError, match="cannot be read as JSON"):
            load_causal_lm(tmp_path)
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(ModelError, match="no model_type"):
            load_causal_lm(tmp_path)
        (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
        with pytest.raises(ModelError, match="holds no weights"):
            load_causal_lm(tmp_path)
        with pytest.raises(ModelError, match="is another file; name the directory"):
            load_causal_lm(tmp_path / "config.json")

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        return save_tiny(tmp_path / "checkpoint", "gpt2", char_tokenizer())

    def test_truncated_weights(self, checkpoint: Path) -> None:
        weights = checkpoint / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(ModelError, match="damaged"):
            load_causal_lm(checkpoint)

    def test_missing_weights(self, checkpoint: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(checkpoint / "model.safetensors")
        tensors.pop("transformer.h.1.mlp.c_fc.weight")
        save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match="initialised them at random"):
            load_causal_lm(checkpoint)

    def test_weights_of_another_shape(self, checkpoint: Path) -> None:
        config = json.loads((checkpoint / "config.json").read_text())
        config["n_embd"] = 64
        (checkpoint / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match="cannot be loaded"):
            load_causal_lm(checkpoint)

    def test_no_tokenizer(self, checkpoint: Path) -> None:
        for file in checkpoint.glob("tokenizer*"):
            file.unlink()
        with pytest.raises(ModelError, match="holds no tokenizer"):
            load_causal_lm(checkpoint)

    def test_damaged_tokenizer(self, checkpoint: Path) -> None:
        (checkpoint / "tokenizer.json").write_text("{}")
        with pytest.raises(ModelError, match=r"tokenizer in .* cannot be loaded"):
            load_causal_lm(checkpoint)

    def test_tokenizer_of_another_model(self, checkpoint: Path, tmp_path: Path) -> None:
        bpe_tokenizer().save_pretrained(tmp_path / "other")
        shutil.copy(tmp_path / "other" / "tokenizer.json", checkpoint / "tokenizer.json")
        with pytest.raises(ModelError, match="belongs to another model"):
            load_causal_lm(checkpoint)

    def test_not_finite(self, checkpoint: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(checkpoint / "model.safetensors")
        tensors["transformer.h.1.mlp.c_fc.weight"][0, 0] = float("nan")
        save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match="not finite"):
            load_causal_lm(checkpoint)

    def test_encoders_and_encoder_decoders(self, tmp_path: Path) -> None:
        from transformers import BertConfig, BertLMHeadModel, T5Config, T5ForConditionalGeneration

        tokenizer = char_tokenizer()
        small = {"vocab_size": len(tokenizer)}
        t5 = T5ForConditionalGeneration(
            T5Config(**small, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)
        )
        t5.save_pretrained(tmp_path / "t5")
        bert = BertLMHeadModel(
            BertConfig(**small, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
        )
        bert.save_pretrained(tmp_path / "bert")
        for name in ("t5", "bert"):
            tokenizer.save_pretrained(tmp_path / name)
        with pytest.raises(ModelError, match="encoder-decoder"):
            load_causal_lm(tmp_path / "t5")
        with pytest.raises(ModelError, match="not causal"):
            load_causal_lm(tmp_path / "bert")

    def test_remote_code_is_never_run(self, checkpoint: Path) -> None:
        config = json.loads((checkpoint / "config.json").read_text())
        config["model_type"] = "mystery"
        config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
        (checkpoint / "config.json").write_text(json.dumps(config))
        (checkpoint / "evil.py").write_text("raise SystemExit('ran')")
        with pytest.raises(ModelError, match="cannot read its configuration"):
            load_causal_lm(checkpoint)

    def test_an_altered_fetched_model(self, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        home = tmp_path / "home"
        target = home / "models" / "smollm2-135m"
        target.parent.mkdir(parents=True)
        shutil.copytree(checkpoint, target)
        (target / "m2kt-model.json").write_text(json.dumps({"digest": digest_of_model(target)}))
        monkeypatch.setenv("M2KT_HOME", str(home))
        assert resolve("smollm2-135m") == target
        (target / "tokenizer.json").write_text((target / "tokenizer.json").read_text() + " ")
        with pytest.raises(ModelError, match="was altered"):
            resolve("smollm2-135m")
