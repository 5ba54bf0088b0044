"""Distillation as a user would do it today: TRL, LoRA on all linear layers of a frozen student.

``sft`` trains on what the teacher answered (sequence-level distillation), ``logits`` on its next-token distributions.
``equal_rank`` says which LoRA is as large as a given CAL.

What makes the baseline strong, and why:

* Tokens are the student's own for the whole text, prompts exactly as they are asked later, no truncation, no chat
  template, no end-of-text token behind the stop string (nobody asks for it). Loss on the completion alone.
* No activation checkpointing (TRL's default, which costs a quarter of the speed), batches grouped by length.
* The learning rate decays with the budget, so a run that is cut off by tokens or seconds still ends annealed.
* Evaluation costs neither tokens nor seconds, and reaching the target once is enough.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from benchmarks._cells import CurvePoint
from m2kt.errors import CompatibilityError
from m2kt.models import LoadedModel, blocks, linear_projections

from ._rows import Row, check_on_policy, method_for, rows_of, stop_tokens
from ._watch import Budget, Evaluate, Progress, Stopped, Watch

FIRST_SEQUENCES = 64


@dataclass(frozen=True)
class Distilled:
    """A student after distillation."""

    model: Any
    """``PeftModel`` in eval mode: LoRA on the student, whose own weights are unchanged."""
    curve: list[CurvePoint]
    sequences: int
    """Sequences passed forward and backward, repeats counted."""
    tokens: int
    """Their tokens, prompts included, padding not."""
    trainable_parameters: int
    seconds: float
    """Training alone: neither evaluation nor setting up."""
    stopped: Stopped
    method: str = "sft"
    """sft, gkd, gold by bytes or gold by position."""
    teacher_passes: int = 0
    """Sequences scored by the teacher during training; its answers in the pairs are not among them."""
    teacher_tokens: int = 0


def lora(model: Any, rank: int) -> Any:
    """LoRA on every linear layer of the decoder blocks, embeddings and head left out."""
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    inside = _projections(model)
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        bias="none",
        target_modules=sorted(inside),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in inside.values()),
        task_type="CAUSAL_LM",
    )


def equal_rank(model: Any, trainable_parameters: int) -> int:
    """The LoRA rank whose number of parameters is nearest to ``trainable_parameters``; at least 1."""
    per_rank = sum(sum(module.weight.shape) for module in _projections(model).values())
    return max(1, round(trainable_parameters / per_rank))


def sft(
    loaded: LoadedModel,
    pairs: Sequence[tuple[str, str]],
    *,
    rank: int,
    lr: float,
    batch: int = 8,
    max_tokens: int | None = None,
    max_seconds: float | None = None,
    max_epochs: float = 40,
    seed: int = 0,
    evaluate: Evaluate,
    first_point: int | None = None,
    growth: float = 1.5,
    target: float | None = None,
    progress: Progress | None = None,
) -> Distilled:
    """Fine-tunes the student on a teacher's answers with TRL's ``SFTTrainer``.

    Args:
        loaded: the student. peft wraps its modules in place: load anew, or ``unload()`` the result, before another run.
        pairs: (prompt, the teacher's completion up to and with the stop string).
        rank: of the LoRA; see ``equal_rank``.
        lr: highest learning rate (AdamW, no weight decay).
        batch: sequences per update.
        max_tokens, max_seconds, max_epochs: the run ends, and the learning rate has decayed, with what comes first.
        evaluate: called with the model in eval mode; returns (accuracy, prompts asked).
        first_point: tokens seen before the first evaluation; 64 sequences' worth by default.
        growth: the next evaluation comes after this many times the tokens; there is always one at the end.
        target: stop at the first evaluation that reaches this accuracy.
        progress: called with (thousandths of the budget spent, 1000).

    Raises:
        CompatibilityError: TRL is missing, or a pair does not fit the student's context.
        TrainingError: the loss is not a number.
    """
    trl = _trl()
    rows = rows_of(loaded, pairs)
    model = _with_lora(loaded, rank, seed)
    watch = Watch(
        model,
        Budget(max_epochs, max_tokens, max_seconds),
        lr,
        evaluate,
        first=first_point or _first_point(rows),
        growth=growth,
        target=target,
        progress=progress,
    )
    with watch:
        trl.train_sft(model, loaded, rows, trl.Run(min(batch, len(rows)), max_epochs, seed, watch))
    return _distilled(model, watch)


def logits(
    loaded: LoadedModel,
    teacher: LoadedModel,
    pairs: Sequence[tuple[str, str]],
    *,
    stop: str,
    on_policy: float = 0.0,
    rank: int,
    lr: float,
    batch: int = 8,
    max_tokens: int | None = None,
    max_seconds: float | None = None,
    max_epochs: float = 40,
    seed: int = 0,
    evaluate: Evaluate,
    first_point: int | None = None,
    growth: float = 1.5,
    target: float | None = None,
    progress: Progress | None = None,
) -> Distilled:
    """Distils the teacher's next-token distributions, with the teacher at hand all the time.

    One vocabulary: TRL's ``GKDTrainer``. Two: its ``GOLDTrainer``. What they would do wrong without a word is refused.

    Args:
        teacher: the model that answered ``pairs``.
        stop: ends an answer; what the student writes itself is cut there.
        on_policy: share of the batches that the student writes itself (sampled); the rest are ``pairs``.

    The others are as in ``sft``.

    Raises:
        CompatibilityError: as ``sft``, and where the trainers cannot compare these two models.
    """
    trl = _trl()
    rows = rows_of(loaded, pairs)
    method = method_for(loaded, teacher, pairs, trl.byte_level(teacher))
    stops: list[int] = []
    if on_policy > 0:
        check_on_policy(loaded, teacher, method)
        stops = stop_tokens(loaded, stop)
    longest = max(sum(row["completion_mask"]) for row in rows)
    model = _with_lora(loaded, rank, seed)
    watch = Watch(
        model,
        Budget(max_epochs, max_tokens, max_seconds),
        lr,
        evaluate,
        first=first_point or _first_point(rows),
        growth=growth,
        target=target,
        progress=progress,
        teacher=teacher.model,
    )
    run = trl.Run(min(batch, len(rows)), max_epochs, seed, watch)
    teaching = trl.Teaching(teacher, on_policy, longest, stops)
    with watch:
        if method == "gkd":
            trl.train_gkd(model, loaded, rows, run, teaching)
        else:
            trl.train_gold(model, loaded, rows, run, teaching, by_bytes=method == "gold by bytes")
    return _distilled(model, watch, method)


def _distilled(model: Any, watch: Watch, method: str = "sft") -> Distilled:
    model.eval()
    return Distilled(
        model=model,
        curve=watch.curve,
        sequences=watch.sequences,
        tokens=watch.tokens,
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        seconds=watch.seconds,
        stopped=watch.stopped,
        method=method,
        teacher_passes=watch.teacher_passes,
        teacher_tokens=watch.teacher_tokens,
    )


def _with_lora(loaded: LoadedModel, rank: int, seed: int) -> Any:
    from peft import get_peft_model

    torch.manual_seed(seed)
    return get_peft_model(loaded.model, lora(loaded.model, rank))


def _projections(model: Any) -> dict[str, Any]:
    """The linear layers of all decoder blocks by their full names."""
    inside = {module for block in blocks(model) for module in linear_projections(block).values()}
    return {name: module for name, module in model.named_modules() if module in inside}


def _first_point(rows: Sequence[Row]) -> int:
    return sum(len(row["input_ids"]) for row in rows) * FIRST_SEQUENCES // len(rows)


def _trl() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that GKD and GOLD are experimental
            from . import _trl as trainers
    except ImportError as error:
        raise CompatibilityError(
            f"the distillation baselines need TRL, and it cannot be imported ({error}): pip install 'm2kt[bench]'"
        ) from error
    return trainers
