"""The tuned classifier: the lower blocks of Gemma 3 270M with LoRA and a linear head, a classifier of categories.

Its probabilities are averaged with those of the probe on the frozen states and words; alone neither is as good.

Legend: B, N texts, C categories, T tokens, E width.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from ._config import CATEGORIES
from ._probe import WINDOW, Floats, by_length, padded, pooled, rarity

if TYPE_CHECKING:
    from torch import Tensor

    from m2kt.models import LoadedModel

DEPTH, LOWEST, RANK = 16, 3, 8
"""Number of blocks kept, the lowest tuned block, and the rank."""
TARGETS = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
EPOCHS, RATE, TRAIN_BATCH, SMOOTHING = 4, 1e-3, 24, 0.05
TRAIN_WINDOW = 128  # longer texts are cut in training


def cut(backbone: LoadedModel) -> LoadedModel:
    """Remove the blocks above ``DEPTH``; the states below do not change."""
    model: Any = backbone.model
    model.model.layers = model.model.layers[:DEPTH]
    model.config.num_hidden_layers = DEPTH
    return backbone


class Tuned:
    """A cut backbone with its adapter and head. ``backbone.model`` becomes a PeftModel."""

    def __init__(self, backbone: LoadedModel, seed: int = 0) -> None:
        import torch
        from peft import LoraConfig, get_peft_model

        from m2kt.models import width

        self.backbone = backbone
        torch.manual_seed(seed)
        config = LoraConfig(
            r=RANK,
            lora_alpha=2 * RANK,
            lora_dropout=0.05,
            target_modules=TARGETS,
            layers_to_transform=list(range(LOWEST, DEPTH)),
            layers_pattern="layers",
        )
        self.model: Any = get_peft_model(backbone.model, config)
        self.model.eval()
        self.head = torch.nn.Linear(2 * width(backbone.model), len(CATEGORIES)).to(backbone.device)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    def logits(self, texts: Sequence[str], window: int = WINDOW) -> Tensor:
        """(B, C), from the mean over a text and its last state."""
        from m2kt.models import decoder

        token_BT, mask_BT = padded(texts, self.backbone, window)
        body = decoder(self.model.get_base_model())
        state_BTE = body(input_ids=token_BT, attention_mask=mask_BT, use_cache=False).last_hidden_state
        out_BC: Tensor = self.head(pooled(state_BTE, mask_BT))
        return out_BC

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Probabilities of the categories, (N, C)."""
        import torch

        out_NC = np.zeros((len(texts), len(CATEGORIES)), dtype=np.float32)
        with torch.no_grad():
            for group in by_length(texts):
                out_NC[group] = self.logits([texts[i] for i in group]).softmax(-1).cpu().numpy()
        return out_NC

    def fit(
        self,
        texts: Sequence[str],
        label_N: NDArray[np.int64],
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Train adapter and head, in fp32 on every device: the threshold is chosen for that arithmetic."""
        import torch
        from torch.nn.functional import cross_entropy

        device = self.backbone.device
        weight_C = torch.from_numpy(np.sqrt(rarity(label_N).clip(max=4))).to(device)
        trained = [*(p for p in self.model.parameters() if p.requires_grad), *self.head.parameters()]
        updates = EPOCHS * math.ceil(len(texts) / TRAIN_BATCH)
        optimiser = torch.optim.AdamW(trained, RATE, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=updates, pct_start=0.1)
        self.model.train()
        for done, batch in enumerate(_batches(texts, random.Random(seed)), 1):
            logit_BC = self.logits([texts[i] for i in batch], TRAIN_WINDOW)
            label_B = torch.from_numpy(label_N[batch]).to(device)
            loss = cross_entropy(logit_BC, label_B, weight=weight_C, label_smoothing=SMOOTHING)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            schedule.step()
            if progress is not None:
                progress(done, updates)
        self.model.eval()

    def to_bytes(self) -> bytes:
        """Adapter and head as safetensors in half precision."""
        from peft import get_peft_model_state_dict

        tensors = get_peft_model_state_dict(self.model) | {
            "head.weight": self.head.weight,
            "head.bias": self.head.bias,
        }
        return save({name: t.detach().cpu().numpy().astype(np.float16) for name, t in tensors.items()})

    @classmethod
    def shipped(cls, backbone: LoadedModel) -> Tuned:
        """The weights that ship with the package, made by ``m2kt_content.train``."""
        import torch
        from peft import set_peft_model_state_dict

        tuned = cls(backbone)
        data = load((files(__package__) / "data" / "tuned.safetensors").read_bytes())
        tensors = {name: torch.from_numpy(t.astype(np.float32)) for name, t in data.items()}
        tuned.head.load_state_dict({n: tensors.pop(f"head.{n}") for n in ("weight", "bias")})
        result: Any = set_peft_model_state_dict(tuned.model, tensors)
        if result.unexpected_keys:
            raise ValueError(f"expected weights of the adapter, got {result.unexpected_keys[:3]} in tuned.safetensors")
        return tuned


def _batches(texts: Sequence[str], rng: random.Random) -> list[list[int]]:
    """Batches of all epochs; texts of similar length together."""
    batches: list[list[int]] = []
    for _ in range(EPOCHS):
        order = rng.sample(range(len(texts)), len(texts))
        span = 8 * TRAIN_BATCH
        epoch = [
            part[i : i + TRAIN_BATCH]
            for a in range(0, len(order), span)
            for part in [sorted(order[a : a + span], key=lambda i: len(texts[i]))]
            for i in range(0, len(part), TRAIN_BATCH)
        ]
        batches += rng.sample(epoch, len(epoch))
    return batches


def averaged(*p_NC: Floats) -> Floats:
    """Geometric mean of probabilities, (N, C)."""
    log_NC = np.mean([np.log(np.maximum(p, 1e-9)) for p in p_NC], axis=0)
    out_NC = np.exp(log_NC - log_NC.max(axis=1, keepdims=True))
    mean_NC: Floats = (out_NC / out_NC.sum(axis=1, keepdims=True)).astype(np.float32)
    return mean_NC
