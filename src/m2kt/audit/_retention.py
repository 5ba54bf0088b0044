"""Is anything else lost? Perplexity and next-token divergence on neutral text shipped with the project.

Legend: B lines, T tokens, V vocabulary.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib.resources import files
from typing import Any

import torch
from pydantic import BaseModel, Field

from m2kt.audit._steps import cal_reader
from m2kt.models import LoadedModel, encode_prompt, pad_batch

LINES_A_BATCH = 8


class Neutral(BaseModel):
    """Behaviour on text that has nothing to do with the skill."""

    perplexity_before: float = Field(
        description="exp of the mean token loss of the frozen student, per token."
    )
    perplexity_after: float = Field(description="The same with the adapter.")
    divergence: float = Field(
        description="Mean KL(before || after) of the next-token distributions, in nats."
    )
    null_mass: float | None = Field(
        default=None,
        description="The reader's mean weight on writing nothing, 1 where it is silenced; null: no reader.",
    )
    tokens: int = Field(description="Tokens measured.")


def neutral_text() -> list[str]:
    """The lines that the project ships."""
    text = files("m2kt.audit").joinpath("neutral.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


@torch.no_grad()
def measure_neutral(loaded: LoadedModel) -> Neutral:
    """Compares ``loaded.model`` (a PeftModel) with its own base, adapter off."""
    model: Any = loaded.model
    lines = neutral_text()
    before = after = divergence = 0.0
    tokens, null_mass = 0, 0.0
    reader = cal_reader(model)
    for start in range(0, len(lines), LINES_A_BATCH):
        ids = [encode_prompt(loaded.tokenizer, line) for line in lines[start : start + LINES_A_BATCH]]
        ids_BT, mask_BT = pad_batch(ids, loaded.pad_id, side="right", device=loaded.device)
        base_BTV = _log_probabilities(model, ids_BT, mask_BT, model.disable_adapter())
        with_BTV = _log_probabilities(model, ids_BT, mask_BT, nullcontext())
        null_BT = None if reader is None else reader.null_mass(model.base_model.last_run)
        real = mask_BT[:, 1:].bool()
        next_BT = ids_BT[:, 1:, None]
        before -= float(base_BTV[:, :-1].gather(-1, next_BT)[..., 0][real].sum())
        after -= float(with_BTV[:, :-1].gather(-1, next_BT)[..., 0][real].sum())
        kl_BT = (base_BTV.exp() * (base_BTV - with_BTV)).sum(-1)[:, :-1]
        divergence += float(kl_BT[real].sum())
        if null_BT is not None:
            null_mass += float(null_BT[:, :-1][real].sum())
        tokens += int(real.sum())
    e = torch.tensor([before / tokens, after / tokens]).exp()
    return Neutral(
        perplexity_before=float(e[0]),
        perplexity_after=float(e[1]),
        divergence=divergence / tokens,
        null_mass=None if reader is None else null_mass / tokens,
        tokens=tokens,
    )


def _log_probabilities(
    model: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, switch: AbstractContextManager[Any]
) -> torch.Tensor:
    with switch:
        logits = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
    result: torch.Tensor = logits.float().log_softmax(-1)
    return result
