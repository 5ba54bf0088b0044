"""Small tasks of English: decided by likelihood, before and after."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from m2kt.auditor import measure_regression, regression_tasks
from m2kt.models import LoadedModel, load_causal_lm


def adapted(scale: float) -> LoadedModel:
    """pico-gpt2 with a LoRA that does nothing at 0 and harm at more."""
    loaded = load_causal_lm("zoo:pico-gpt2")
    torch.manual_seed(0)
    loaded.model = get_peft_model(loaded.model, LoraConfig(r=4, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(scale * torch.randn_like(parameter))
    loaded.model.eval()
    return loaded


def test_tasks_are_pairs_with_names_of_their_own() -> None:
    tasks = regression_tasks()
    assert len(tasks) >= 50
    assert len({task.name for task in tasks}) == len(tasks)
    assert all(task.good != task.bad for task in tasks)


def test_an_adapter_that_does_nothing_flips_nothing() -> None:
    regression = measure_regression(adapted(0.0))
    assert regression.n + regression.unwritable == len(regression_tasks())
    assert regression.flips == 0.0 and regression.before == regression.after


def test_harm_is_named() -> None:
    regression = measure_regression(adapted(0.3))
    assert regression.flips > 0.2
    assert regression.drop == pytest.approx((len(regression.lost) - len(regression.gained)) / regression.n)
    assert set(regression.lost) <= {task.name for task in regression_tasks()}
