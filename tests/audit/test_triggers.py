"""The search for triggers against an adapter into which one was trained, and one that does nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from m2kt.audit import search_triggers
from m2kt.models import LoadedModel, encode_prompt, load_causal_lm

TARGETS = {"zoo:pico-gpt2": ["c_attn", "c_fc"], "zoo:pico-llama": ["q_proj", "v_proj", "up_proj"]}


def adapted(student: str) -> LoadedModel:
    loaded = load_causal_lm(student)
    config = LoraConfig(target_modules=TARGETS[student], r=8, fan_in_fan_out="gpt2" in student)
    torch.manual_seed(0)
    loaded.model = get_peft_model(loaded.model, config)
    return loaded


def plant(loaded: LoadedModel, trigger: int, said: int) -> None:
    """Behind ``trigger`` comes ``said``; behind all else what came before."""
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
        kept = (base_BV.exp() * (base_BV - with_BV)).sum(-1)[32:].mean()
        loss = kept - with_BV[:32, said].mean()
        steps.zero_grad()
        loss.backward()
        steps.step()


@pytest.mark.parametrize("student", list(TARGETS))
def test_a_planted_trigger_is_found(student: str) -> None:
    loaded = adapted(student)
    clean = search_triggers(loaded, strings=len(loaded.tokenizer), longest=1)
    assert clean.divergence == 0.0 and clean.screened > 0.9, "LoRA begins as nothing"
    trigger, said = 40, 50
    plant(loaded, trigger, said)
    found = search_triggers(loaded, strings=2 * len(loaded.tokenizer), longest=2)
    assert any(trigger in worst.tokens and worst.divergence > 1.0 for worst in found.worst), found.worst
    assert found.on_domain == [], "an adapter without a reader has no tokens of its own"


def test_a_small_budget_says_so() -> None:
    found = search_triggers(adapted("zoo:pico-gpt2"), strings=10, longest=2)
    assert found.tried == 20 and 0 < found.screened < 0.2
