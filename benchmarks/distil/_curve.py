"""The settings of a run, and the trainer callback that counts its cost and draws its learning curve."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, inf, pi
from types import TracebackType
from typing import Any, Literal

import torch
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from benchmarks._cells import CurvePoint
from benchmarks._lora import lora
from benchmarks.distil._rows import Row
from m2kt.errors import TrainingError
from m2kt.models import LoadedModel

Stopped = Literal["reached", "budget", "epochs"]
Evaluate = Callable[[PreTrainedModel], tuple[float, int]]
"""Called with the model in eval mode; returns (accuracy, number of prompts)."""

WARMUP_STEPS = 20
WARMUP_SHARE = 0.05
FIRST_SEQUENCES = 64


@dataclass(frozen=True)
class Settings:
    """One distillation run. It ends, and its learning rate has decayed, with the budget that is used up first."""

    rank: int
    """Of the LoRA; see :func:`benchmarks.distil.equal_rank`."""
    lr: float
    """Peak learning rate (AdamW, no weight decay)."""
    batch: int = 8
    """Sequences per update."""
    max_epochs: float = 40
    max_tokens: int | None = None
    max_seconds: float | None = None
    seed: int = 0
    first_point: int | None = None
    """Tokens before the first evaluation; by default those of 64 sequences."""
    growth: float = 1.5
    """Ratio of the tokens of one evaluation to those of the evaluation before. The last update is always evaluated."""
    target: float | None = None
    """Accuracy at which the run ends."""

    def share(self, epochs: float, tokens: int, seconds: float) -> float:
        """The used share of the budget that is scarcest; 1 where it is used up."""
        return max(epochs / self.max_epochs, tokens / (self.max_tokens or inf), seconds / (self.max_seconds or inf))


@dataclass(frozen=True)
class Distilled:
    """A student after distillation."""

    model: PeftModel
    """In eval mode: LoRA on the student, whose own weights are unchanged."""
    curve: list[CurvePoint]
    sequences: int
    """Sequences passed forward and backward, repeats counted."""
    tokens: int
    """Their tokens, prompts included, padding not."""
    trainable_parameters: int
    seconds: float
    """Training alone: neither evaluation nor setup."""
    stopped: Stopped
    method: str
    """sft, gkd, gold by bytes or gold by position."""
    teacher_passes: int
    """Sequences scored by the teacher during training; its answers in the pairs are not among them."""
    teacher_tokens: int


def with_lora(student: LoadedModel, settings: Settings) -> PeftModel:
    """The student with an untrained LoRA. peft wraps the modules in place: a second run needs a fresh student."""
    torch.manual_seed(settings.seed)
    return get_peft_model(student.model, lora(student.model, settings.rank))


def rate(spent: float, after: float, step: int) -> float:
    """The learning rate's factor in an update: a short warm-up, then a cosine that ends with the budget.

    A schedule longer than the run would be cut off at a high rate, and the last accuracy would be lower than the data
    and the compute allow. So the cosine follows the spent budget and not a planned number of updates.

    Args:
        spent: share of the budget that is spent before the update.
        after: share of the budget that is spent after it.
        step: updates before it.
    """
    warm = min(1.0, max(after / WARMUP_SHARE, (step + 1) / WARMUP_STEPS))
    return warm * (1 + cos(pi * min(1.0, spent))) / 2


class LearningCurve(TrainerCallback):
    """Counts the cost, sets the learning rate, evaluates at a geometric series of tokens, and ends the run.

    Seconds of evaluation are not counted. Tokens and sequences are counted at the student's forward passes with
    gradients, so that they mean the same for every trainer, also for one that samples its sequences from the student.
    """

    def __init__(
        self,
        model: PeftModel,
        rows: list[Row],
        settings: Settings,
        evaluate: Evaluate,
        *,
        method: str = "sft",
        teacher: nn.Module | None = None,
    ) -> None:
        self.curve: list[CurvePoint] = []
        self.tokens = self.sequences = self.teacher_tokens = self.teacher_passes = 0
        self.seconds = 0.0
        self.stopped: Stopped = "epochs"
        self._model, self._settings, self._evaluate, self._method = model, settings, evaluate, method
        all_tokens = sum(len(row["input_ids"]) for row in rows)
        self._next_point: float = settings.first_point or all_tokens * FIRST_SEQUENCES // len(rows)
        self._started = time.perf_counter()
        self._evaluating = 0.0  # seconds
        self._step = self._steps = 0
        self._hooks = [model.register_forward_pre_hook(self._count, with_kwargs=True)]
        if teacher is not None:
            self._hooks.append(teacher.register_forward_pre_hook(self._count_teacher, with_kwargs=True))

    def __enter__(self) -> LearningCurve:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def distilled(self) -> Distilled:
        """The model in eval mode, with its curve and its cost."""
        self._model.eval()
        return Distilled(
            model=self._model,
            curve=self.curve,
            sequences=self.sequences,
            tokens=self.tokens,
            trainable_parameters=sum(p.numel() for p in self._model.parameters() if p.requires_grad),
            seconds=self.seconds,
            stopped=self.stopped,
            method=self._method,
            teacher_passes=self.teacher_passes,
            teacher_tokens=self.teacher_tokens,
        )

    def _training_seconds(self) -> float:
        return time.perf_counter() - self._started - self._evaluating

    def _count(self, model: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if model.training and torch.is_grad_enabled():
            self.tokens += int(kwargs["attention_mask"].sum())
            self.sequences += kwargs["attention_mask"].shape[0]

    def _count_teacher(self, _model: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.teacher_tokens += int(kwargs["attention_mask"].sum())
        self.teacher_passes += kwargs["attention_mask"].shape[0]

    def _share(self, steps: int) -> float:
        """The share of the budget that is spent after ``steps`` updates, extrapolated from those done."""
        epochs = self._settings.max_epochs * steps / self._steps
        ratio = steps / max(self._step, 1)
        return self._settings.share(epochs, int(self.tokens * ratio), self._training_seconds() * ratio)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._started, self._steps = time.perf_counter(), state.max_steps

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._step = state.global_step
        factor = rate(self._share(self._step), self._share(self._step + 1), self._step)
        for group in kwargs["optimizer"].param_groups:
            group["lr"] = self._settings.lr * factor

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._step, self.seconds = state.global_step, self._training_seconds()
        last_epoch_done = self._step >= self._steps
        if self._share(self._step) >= 1 and not last_epoch_done:
            self.stopped = "budget"
        ends = last_epoch_done or self.stopped == "budget"
        if ends or self.tokens >= self._next_point:
            self._add_point(kwargs["model"])
            self._next_point = self.tokens * self._settings.growth
        control.should_training_stop = ends or self.stopped == "reached"

    def _add_point(self, model: PreTrainedModel) -> None:
        started = time.perf_counter()
        if not all(torch.isfinite(p).all() for p in model.parameters() if p.requires_grad):
            raise TrainingError(f"weights are not finite after {self._step} updates; lower the learning rate")
        model.eval()
        with torch.no_grad():
            accuracy, n = self._evaluate(model)
        model.train()
        self._evaluating += time.perf_counter() - started
        self.curve.append(
            CurvePoint(tokens=self.tokens, sequences=self.sequences, seconds=self.seconds, accuracy=accuracy, n=n)
        )
        if self._settings.target is not None and accuracy >= self._settings.target:
            self.stopped = "reached"
