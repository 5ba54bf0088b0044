"""Consolidation: what an accepted student does with its reader, moved into low-rank weights that can be merged.

The reader is custom code that servers do not run. Here the student with its adapter is the teacher: it answers prompts
of the packet's rehearsal split, and low-rank updates of the frozen student's matrices learn its answers. The packet
stays the only source; nobody else's answer is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from m2kt.models import LoadedModel, context_length
from m2kt.student._off_domain import sample_off_domain
from m2kt.student._tune import endless_batches, fine_tune, labelled_tokens

QUIET_BATCH, QUIET_TOKENS = 8, 24


class ConsolidateSettings(BaseModel):
    """How the reader's skill is moved into weights."""

    model_config = ConfigDict(extra="forbid")

    rank: int = Field(default=16, ge=1, description="Of the update of each matrix.")
    lr: float = Field(default=3e-3, gt=0, description="Peak rate.")
    batch: int = Field(default=16, ge=1, description="Answers an update.")
    updates: int = Field(default=600, ge=1, description="At most.")
    answers: int = Field(
        default=4000, ge=1, description="Rehearsal prompts that the accepted student answers."
    )
    watched: int = Field(default=64, ge=1, description="Further ones on which the training is watched.")
    every: int = Field(default=50, ge=1, description="Updates between two looks.")
    reached: float = Field(default=0.99, ge=0, le=1, description="Agreement there at which it ends.")


def distil_reader(
    loaded: LoadedModel,
    pairs: Sequence[tuple[str, str]],
    agreement: Callable[[LoadedModel], float],
    settings: ConsolidateSettings,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[LoadedModel, dict[str, Any]]:
    """Trains the low-rank updates on a frozen student; not merged yet, so that they can still be switched off.

    Args:
        loaded: the frozen student, without adapter; wrapped in place.
        pairs: prompts and what the accepted student answers, stop string included.
        agreement: share of other prompts that a model answers as the accepted student does.

    Returns the student with its updates, and the ledger: updates, tokens, agreement on the way.

    Raises:
        CompatibilityError, TrainingError: see :mod:`m2kt.student._tune`.
    """
    torch.manual_seed(seed)
    rows = labelled_tokens(loaded, pairs)
    length = min(QUIET_TOKENS, context_length(loaded.model))
    line_LT = sample_off_domain(loaded.model, loaded.tokenizer, [ids for ids, _ in rows[:256]], length, seed)
    kept = [(part, torch.ones_like(part)) for part in line_LT.split(QUIET_BATCH)]
    config = LoraConfig(
        task_type="CAUSAL_LM", r=settings.rank, lora_alpha=2 * settings.rank, target_modules="all-linear"
    )
    model: Any = get_peft_model(loaded.model, config)
    student = replace(loaded, model=model)

    @torch.no_grad()
    def think(k: int) -> Tensor:
        with model.disable_adapter():
            logits_BTV = model(input_ids=kept[k][0], attention_mask=kept[k][1], use_cache=False).logits
        before_BTV: Tensor = logits_BTV.float().log_softmax(-1)
        return before_BTV

    curve: list[dict[str, float]] = []

    def watch(done: int, loss: float) -> bool:
        if progress is not None:
            progress(done, settings.updates)
        if done % settings.every and done < settings.updates:
            return False
        model.eval()
        with torch.no_grad():
            curve.append({"update": done, "loss": round(loss, 4), "agreement": agreement(student)})
        model.train()
        return curve[-1]["agreement"] >= settings.reached

    tokens = fine_tune(
        student,
        endless_batches(rows, settings.batch, seed),
        kept,
        think,
        updates=settings.updates,
        lr=settings.lr,
        watch=watch,
    )
    ledger = {
        "labelled_examples": 0,
        "answers_of_the_student": len(pairs),
        "updates": int(curve[-1]["update"]),
        "tokens": tokens,
        "curve": curve,
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "seed": seed,
    }
    return student, ledger
