"""A base by its Hub id: the adapter names repository and commit, so that other machines can load it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.packet.hub import SHA, run, serving
from tests.tiny import char_tokenizer, save_tiny

pytestmark = pytest.mark.long

TRAIN = """
import torch
from m2kt.student import train
from m2kt.models import load_causal_lm
from tests.student.helpers import perturbed, small_packet
loaded = load_causal_lm("ann/base")
assert loaded.hub_id == "ann/base", loaded.hub_id
model = perturbed(train(loaded, small_packet(), updates=1).model).eval()
model.save_pretrained({adapter!r})
print(model(input_ids=torch.tensor([[3, 2, 4, 35]])).logits.double().norm().item())
"""
OPEN = """
import torch, m2kt.student
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM
for loader in (AutoPeftModelForCausalLM, AutoModelForCausalLM):
    model = loader.from_pretrained({adapter!r}).eval()
    print(model(input_ids=torch.tensor([[3, 2, 4, 35]])).logits.double().norm().item())
"""


def test_an_adapter_on_a_hub_base_opens_on_another_machine(tmp_path: Path) -> None:
    save_tiny(tmp_path / "hub" / "ann" / "base", "llama", char_tokenizer())
    adapter = tmp_path / "adapter"
    with serving(tmp_path / "hub", tmp_path / "cache") as client:
        trained = run(TRAIN.format(adapter=str(adapter)), client)
        assert trained.returncode == 0, trained.stderr
        config = json.loads((adapter / "adapter_config.json").read_text())
        assert (config["base_model_name_or_path"], config["revision"]) == ("ann/base", SHA)
        opened = run(OPEN.format(adapter=str(adapter)), client | {"HF_HOME": str(tmp_path / "other-home")})
    assert opened.returncode == 0, opened.stderr
    assert [float(x) for x in opened.stdout.split()] == [float(trained.stdout)] * 2
    assert ModelCard.load(adapter / "README.md").data.library_name == "peft"
