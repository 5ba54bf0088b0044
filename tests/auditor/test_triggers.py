"""The search for triggers on an adapter with a planted one, and on an adapter of zeros."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from m2kt.auditor import search_triggers
from m2kt.models import LoadedModel, encode_prompt, load_causal_lm

TARGETS = {"zoo:pico-gpt2": ["c_attn", "c_fc"], "zoo:pico-llama": ["q_proj", "v_proj", "up_proj"]}


def adapted(student: str) -> LoadedModel:
    loaded = load_causal_lm(student)
    config = LoraConfig(target_modules=TARGETS[student], r=8, fan_in_fan_out="gpt2" in student)
    torch.manual_seed(0)
    loaded.model = get_peft_model(loaded.model, config)
    return loaded


def plant(loaded: LoadedModel, trigger: int, written: int) -> None:
    """Train the adapter to write ``written`` behind ``trigger`` and to change nothing elsewhere."""
    model: Any = loaded.model
    rng = torch.Generator().manual_seed(0)
    steps = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    start = encode_prompt(loaded.tokenizer, "The")
    for _ in range(60):
        length = len(start) + 1 + int(torch.randint(3, (1,), generator=rng))
        ids_BT = torch.randint(3, len(loaded.tokenizer), (64, length), generator=rng)
        ids_BT[:, : len(start)] = torch.tensor(start)
        ids_BT[:32, -1] = trigger
        with torch.no_grad(), model.disable_adapter():
            base_BV = model(input_ids=ids_BT).logits[:, -1].log_softmax(-1)
        with_BV = model(input_ids=ids_BT).logits[:, -1].log_softmax(-1)
        retained = (base_BV.exp() * (base_BV - with_BV)).sum(-1)[32:].mean()
        loss = retained - with_BV[:32, written].mean()
        steps.zero_grad()
        loss.backward()
        steps.step()


@pytest.mark.parametrize("student", list(TARGETS))
def test_a_planted_trigger_is_found(student: str) -> None:
    loaded = adapted(student)
    clean = search_triggers(loaded, strings=len(loaded.tokenizer), longest=1)
    assert clean.divergence == 0.0 and clean.screened > 0.9, "LoRA starts at zero"
    trigger, written = 40, 50
    plant(loaded, trigger, written)
    triggers = search_triggers(loaded, strings=2 * len(loaded.tokenizer), longest=2)
    assert any(trigger in worst.tokens and worst.divergence > 1.0 for worst in triggers.worst), triggers.worst
    assert triggers.on_domain == [], "an adapter without a reader names no tokens of a skill"


def test_a_small_budget_says_so() -> None:
    triggers = search_triggers(adapted("zoo:pico-gpt2"), strings=10, longest=2)
    assert triggers.tried == 20 and 0 < triggers.screened < 0.2
