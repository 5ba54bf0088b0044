"""Quantised bases (8 and 4 bits) on a CPU: training, saving and loading an adapter, disabling it.

``make optional`` installs the libraries; without them these tests are skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from m2kt.errors import CompatibilityError
from m2kt.models import load_causal_lm
from m2kt.pipeline import export
from m2kt.student import StudentSettings, train
from tests.student.helpers import perturbed, small_packet
from tests.tiny import char_tokenizer, tiny_model

pytestmark = pytest.mark.optional
SETTINGS = {"reader": {"gather_width": 16, "selector_width": 32}, "steering": {"rank": 2}}


def bitsandbytes_8() -> Any:
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True)


def bitsandbytes_4() -> Any:
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")


def torchao_8() -> Any:
    pytest.importorskip("torchao")
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def torchao_4() -> Any:
    pytest.importorskip("torchao")
    from torchao.quantization import IntxWeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(IntxWeightOnlyConfig(weight_dtype=torch.int4))


def quantised(path: Path, family: str, config: Any, dtype: torch.dtype) -> Path:
    """A saved quantised base, wide enough for quantisation blocks of 64."""
    from transformers import AutoModelForCausalLM

    tokenizer = char_tokenizer()
    tiny_model(family, len(tokenizer), width=128).save_pretrained(path / "full")
    model = AutoModelForCausalLM.from_pretrained(path / "full", quantization_config=config, dtype=dtype)
    model.save_pretrained(path / "base")
    tokenizer.save_pretrained(path / "base")
    return path / "base"


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    output: torch.Tensor = model.eval()(input_ids=torch.tensor([char_tokenizer()("a b:")["input_ids"]])).logits
    return output


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("make", "family"),
    [
        (bitsandbytes_8, "llama"),
        (bitsandbytes_8, "gpt2"),
        (bitsandbytes_4, "llama"),
        (torchao_8, "llama"),
        (torchao_4, "llama"),
    ],
)
def test_a_quantised_base_trains_and_reloads(make: Any, family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    loaded = load_causal_lm(quantised(tmp_path, family, make(), dtype))
    assert loaded.quantised and loaded.model.dtype == dtype
    base_logits = logits(loaded.model)
    settings = StudentSettings.model_validate(SETTINGS)
    model = perturbed(train(loaded, small_packet(), settings, updates=2).model)
    expected = logits(model)
    assert not torch.allclose(expected, base_logits, atol=1e-2)
    model.save_pretrained(str(tmp_path / "adapter"))
    opened = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "adapter"))
    assert torch.equal(logits(opened), expected)
    with opened.disable_adapter():
        assert torch.equal(logits(opened), base_logits)
    with pytest.raises(CompatibilityError, match="quantised weights"):
        export(tmp_path / "adapter", tmp_path / "out", without_reader=True)
