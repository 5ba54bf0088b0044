"""Export: steering is merged into the checkpoint, readers are refused or left out and named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from typer.testing import CliRunner

from m2kt.cli import app
from m2kt.errors import CompatibilityError, ModelError, StorageError
from m2kt.models import load_causal_lm
from m2kt.models._gguf import read_gguf
from m2kt.pipeline import export
from m2kt.student import StudentSettings, train
from tests.student.helpers import perturbed, small_packet
from tests.tiny import char_tokenizer, save_tiny

IDS = torch.tensor([[3, 4, 5, 6, 7, 8]])
FAMILIES = ["llama", "gpt2"]
STEERING = {"reader": {"gather_width": 16, "selector_width": 32}, "steering": {"rank": 2, "last_depth": 1.0}}


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    output: torch.Tensor = model.eval()(input_ids=IDS).logits
    return output


def saved_base(path: Path, family: str) -> Path:
    return save_tiny(path / f"{family}-base", family, char_tokenizer())


def steered(base: Path, out: Path, **settings: Any) -> Any:
    """Train and save an adapter with steering, and a reader unless ``settings`` say otherwise; the adapted model."""
    student_settings = StudentSettings.model_validate({**STEERING, **settings})
    model = perturbed(train(load_causal_lm(base), small_packet(), student_settings, updates=1).model)
    model.save_pretrained(str(out))
    return model


def steered_without_reader(base: Path, out: Path) -> Any:
    return steered(base, out, reader={"kind": "none"})


@pytest.mark.parametrize("family", FAMILIES)
def test_steering_is_merged_into_a_checkpoint_that_needs_no_m2kt(family: str, tmp_path: Path) -> None:
    base = saved_base(tmp_path, family)
    expected = logits(steered_without_reader(base, tmp_path / "adapter"))
    assert not torch.allclose(expected, logits(load_causal_lm(base).model), atol=1e-2)
    result = export(tmp_path / "adapter", tmp_path / "plain")
    assert result.merged and not result.left_out
    code = (
        "import sys; sys.modules['m2kt'] = None\n"
        "import torch\n"
        "from transformers import AutoModelForCausalLM\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(tmp_path / 'plain')!r})\n"
        f"torch.save(model(input_ids=torch.tensor({IDS.tolist()})).logits.detach(), {str(tmp_path / 'logits.pt')!r})\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert torch.allclose(torch.load(tmp_path / "logits.pt"), expected, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_steering_is_merged_into_a_gguf_file(family: str, tmp_path: Path) -> None:
    base = saved_base(tmp_path, family)
    expected = logits(steered_without_reader(base, tmp_path / "adapter"))
    result = export(tmp_path / "adapter", tmp_path / "out", form="gguf")
    model, tokenizer = read_gguf(Path(result.written), torch.float32)
    assert torch.allclose(logits(model), expected, atol=1e-4)
    assert tokenizer("a b: 12\n")["input_ids"] == char_tokenizer()("a b: 12\n")["input_ids"]
    assert "no merges" in result.notes[0]  # llama.cpp needs a vocabulary with merges
    card = (tmp_path / "out" / "README.md").read_text()
    code = next(part for part in card.split("```") if part.startswith("python")).removeprefix("python")
    namespace: dict[str, Any] = {}
    exec(code.replace("DIR", str(tmp_path / "out")), namespace)  # the code of the card runs
    assert torch.allclose(logits(namespace["model"]), expected, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reader_is_refused_or_left_out_and_named(family: str, tmp_path: Path) -> None:
    base = saved_base(tmp_path, family)
    model = steered(base, tmp_path / "adapter")
    result = CliRunner().invoke(app, ["export", str(tmp_path / "adapter"), "--out", str(tmp_path / "plain")])
    assert result.exit_code == 8 and "m2kt consolidate" in result.stderr and not (tmp_path / "plain").exists()
    model.base_model.drop_readers()
    expected = logits(model)
    exported = export(tmp_path / "adapter", tmp_path / "plain", without_reader=True)
    assert len(exported.left_out) == 1 and exported.left_out[0].endswith(".2")
    assert torch.allclose(logits(load_causal_lm(tmp_path / "plain").model), expected, atol=1e-4)
    assert f"The reader after {exported.left_out[0]} is not in it" in (tmp_path / "plain" / "README.md").read_text()


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_steering_can_be_unmerged(family: str, tmp_path: Path) -> None:
    base = saved_base(tmp_path, family)
    model = steered_without_reader(base, tmp_path / "adapter")
    with model.disable_adapter():
        base_logits = logits(model)
    expected = logits(model)
    model.merge_adapter()
    assert torch.allclose(logits(model), expected, atol=1e-4)
    with model.disable_adapter():
        assert torch.allclose(logits(model), base_logits, atol=1e-4)
    assert torch.allclose(logits(model), expected, atol=1e-4)


def test_adapters_of_peft_are_merged_if_peft_can_merge_them(tmp_path: Path) -> None:
    base = saved_base(tmp_path, "llama")
    plain = load_causal_lm(base)
    lora = perturbed(get_peft_model(plain.model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])))
    expected = logits(lora)
    lora.save_pretrained(str(tmp_path / "lora"))
    config = tmp_path / "lora" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": None}))
    with pytest.raises(CompatibilityError, match="expected a base model in"):
        export(tmp_path / "lora", tmp_path / "merged")
    export(tmp_path / "lora", tmp_path / "merged", student=str(base))
    assert torch.allclose(logits(load_causal_lm(tmp_path / "merged").model), expected, atol=1e-4)
    prompts = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(load_causal_lm(base).model, prompts).save_pretrained(str(tmp_path / "prompts"))
    with pytest.raises(CompatibilityError, match=r"expected low-rank steering in .*prompts"):
        export(tmp_path / "prompts", tmp_path / "x", student=str(base))


def test_a_plain_checkpoint_is_only_converted(tmp_path: Path) -> None:
    base = saved_base(tmp_path, "llama")
    with pytest.raises(ModelError, match="an ordinary checkpoint already"):
        export(base, tmp_path / "x")
    export(base, tmp_path / "x", form="gguf")
    with pytest.raises(StorageError, match="nothing was overwritten"):
        export(base, tmp_path / "x", form="gguf")
    with pytest.raises(ModelError, match="a gpt_neox model cannot be written as GGUF"):
        export(saved_base(tmp_path, "neox"), tmp_path / "y", form="gguf")
    with pytest.raises(CompatibilityError, match="expected a model class of transformers"):
        export(saved_base(tmp_path, "gru"), tmp_path / "y", form="gguf")
    assert not (tmp_path / "y").exists() and not list(tmp_path.glob(".y-*"))
