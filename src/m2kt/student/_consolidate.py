"""Consolidation: distil an accepted student with its reader into low-rank updates that can be merged.

Inference servers do not run the reader, which is custom code. Here the student with its adapter is the teacher: it
answers prompts of the packet's rehearsal split, and low-rank updates of the frozen student learn these answers. The
packet stays the only source.

Letters: N lines, B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypedDict, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import PreTrainedModel

from m2kt.models import LoadedModel, context_length
from m2kt.student._off_domain import sample_off_domain
from m2kt.student._tune import LabelledTokens, endless_batches, fine_tune

OFF_DOMAIN_BATCH, OFF_DOMAIN_TOKENS = 8, 24
FRAGMENT_TRACES = 256  # answers from which off-domain lines take fragments


class ConsolidateSettings(BaseModel):
    """How the reader's skill is distilled into weights."""

    model_config = ConfigDict(extra="forbid")

    rank: int = Field(default=16, ge=1, description="Rank of the update of each matrix.")
    lr: float = Field(default=3e-3, gt=0, description="Peak learning rate.")
    batch: int = Field(default=16, ge=1, description="Answers per update.")
    updates: int = Field(default=600, ge=1, description="Maximum number of updates.")
    answers: int = Field(
        default=4000, ge=1, description="Rehearsal prompts that the accepted student answers for training."
    )
    watched: int = Field(default=64, ge=1, description="Further prompts on which agreement is measured.")
    every: int = Field(default=50, ge=1, description="Updates between two measurements.")
    reached: float = Field(default=0.99, ge=0, le=1, description="Agreement at which training ends.")


class CurvePoint(TypedDict):
    """One measurement during training."""

    update: int
    loss: float
    agreement: float


class ConsolidationLedger(TypedDict):
    """Data and work of a consolidation; the keys are those of ledgers on disk."""

    labelled_examples: int
    answers_of_the_student: int
    updates: int
    tokens: int
    curve: list[CurvePoint]
    trainable_parameters: int
    seed: int


def distil_reader(
    loaded: LoadedModel,
    rows: Sequence[LabelledTokens],
    agreement: Callable[[LoadedModel], float],
    settings: ConsolidateSettings,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[LoadedModel, ConsolidationLedger]:
    """Train low-rank updates of a frozen student; they are not merged, so that they can be disabled.

    Args:
        loaded: the frozen student without adapter; wrapped in place.
        rows: prompts with the accepted student's answers, their end included.
        agreement: share of other prompts that a model answers as the accepted student does.

    Raises:
        CompatibilityError, TrainingError: see :mod:`m2kt.student._tune`.
    """
    torch.manual_seed(seed)
    base = cast(PreTrainedModel, loaded.model)
    fragments = [ids for ids, _ in rows[:FRAGMENT_TRACES]]
    length = min(OFF_DOMAIN_TOKENS, context_length(base))
    line_NT = sample_off_domain(base, loaded.tokenizer, fragments, length, seed)
    regularisation = [(part, torch.ones_like(part)) for part in line_NT.split(OFF_DOMAIN_BATCH)]
    model = _with_low_rank_updates(base, settings.rank)
    student = replace(loaded, model=model)
    curve: list[CurvePoint] = []

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

    n_tokens = fine_tune(
        student,
        endless_batches(rows, settings.batch, seed),
        regularisation,
        lambda i: _frozen_log_probabilities(model, *regularisation[i]),
        updates=settings.updates,
        lr=settings.lr,
        watch=watch,
    )
    ledger: ConsolidationLedger = {
        "labelled_examples": 0,
        "answers_of_the_student": len(rows),
        "updates": int(curve[-1]["update"]),
        "tokens": n_tokens,
        "curve": curve,
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "seed": seed,
    }
    return student, ledger


def _with_low_rank_updates(base: PreTrainedModel, rank: int) -> PeftModel:
    config = LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    return cast(PeftModel, get_peft_model(base, config))


@torch.no_grad()
def _frozen_log_probabilities(model: PeftModel, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    with model.disable_adapter():
        logits_BTV: Tensor = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
    return logits_BTV.float().log_softmax(-1)
