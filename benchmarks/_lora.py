"""LoRA on every linear layer of the decoder blocks, as large as a given CAL: the adapter of the baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m2kt.models import blocks, linear_projections

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import nn


def lora(model: nn.Module, rank: int) -> LoraConfig:
    """LoRA on every linear layer of the decoder blocks, embeddings and head left out."""
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    projections = _projections(model)
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        bias="none",
        target_modules=sorted(projections),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in projections.values()),
        task_type="CAUSAL_LM",
    )


def equal_rank(model: nn.Module, trainable_parameters: int) -> int:
    """The LoRA rank whose number of parameters is nearest to ``trainable_parameters``; at least 1."""
    per_rank = sum(sum(module.get_parameter("weight").shape) for module in _projections(model).values())
    return max(1, round(trainable_parameters / per_rank))


def _projections(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers of all decoder blocks by their full names."""
    projections = {module for block in blocks(model) for module in linear_projections(block).values()}
    return {name: module for name, module in model.named_modules() if module in projections}
