"""Perplexity and next-token divergence on neutral text: what the adapter changes off domain."""

from __future__ import annotations

from importlib.resources import files

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from m2kt._shapes import Float, Int
from m2kt.auditor._traces import cal_reader, observed
from m2kt.models import LoadedModel, encode_prompt, pad_batch

LINES_A_BATCH = 8


class Neutral(BaseModel):
    """Behaviour on neutral text."""

    perplexity_before: float = Field(description="exp of the mean token loss of the frozen student, per token.")
    perplexity_after: float = Field(description="The same with the adapter.")
    divergence: float = Field(description="Mean KL(before || after) of the next-token distributions, in nats.")
    null_mass: float | None = Field(
        default=None,
        description="The reader's mean weight on injecting nothing, 1 where it is gated off; null: no reader.",
    )
    tokens: int = Field(description="Tokens measured.")


def neutral_text() -> list[str]:
    """The lines that ship with the package."""
    text = files("m2kt.auditor").joinpath("neutral.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


@torch.no_grad()
def measure_neutral(loaded: LoadedModel) -> Neutral:
    """Compare ``loaded`` with its adapter on and off."""
    lines = neutral_text()
    before = after = divergence = 0.0
    tokens, null_mass = 0, 0.0
    reader = cal_reader(loaded.model)
    for start in range(0, len(lines), LINES_A_BATCH):
        ids = [encode_prompt(loaded.tokenizer, line) for line in lines[start : start + LINES_A_BATCH]]
        ids_BT, mask_BT = pad_batch(ids, loaded.pad_id, side="right", device=loaded.device)
        with loaded.peft_model.disable_adapter():
            base_BTV = _log_probabilities(loaded, ids_BT, mask_BT)
        with observed(loaded.model) as runs:
            with_BTV = _log_probabilities(loaded, ids_BT, mask_BT)
        real_BT = mask_BT[:, 1:].bool()
        next_BT1 = ids_BT[:, 1:, None]
        before -= float(base_BTV[:, :-1].gather(-1, next_BT1)[..., 0][real_BT].sum())
        after -= float(with_BTV[:, :-1].gather(-1, next_BT1)[..., 0][real_BT].sum())
        kl_BT = (base_BTV.exp() * (base_BTV - with_BTV)).sum(-1)[:, :-1]
        divergence += float(kl_BT[real_BT].sum())
        if reader is not None and runs:
            null_mass += float(reader.null_mass(runs[-1])[:, :-1][real_BT].sum())
        tokens += int(real_BT.sum())
    mean_loss = torch.tensor([before / tokens, after / tokens])
    return Neutral(
        perplexity_before=float(mean_loss.exp()[0]),
        perplexity_after=float(mean_loss.exp()[1]),
        divergence=divergence / tokens,
        null_mass=None if reader is None else null_mass / tokens,
        tokens=tokens,
    )


def _log_probabilities(
    loaded: LoadedModel, ids_BT: Int[Tensor, "B T"], mask_BT: Int[Tensor, "B T"]
) -> Float[Tensor, "B T V"]:
    logits_BTV = loaded.model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
    log_p_BTV: Tensor = logits_BTV.float().log_softmax(-1)
    return log_p_BTV
