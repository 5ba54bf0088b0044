"""What a distillation run is allowed to spend, what it has spent, and when it is asked how good it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, inf, pi
from typing import Any, Literal

import torch
from transformers import TrainerCallback

from benchmarks._cells import CurvePoint
from m2kt.errors import TrainingError

Stopped = Literal["reached", "budget", "epochs"]
Evaluate = Callable[[Any], tuple[float, int]]
Progress = Callable[[int, int], None]

WARMUP_STEPS = 20
WARMUP_SHARE = 0.05


@dataclass(frozen=True)
class Budget:
    """Ends of a run; whichever comes first."""

    epochs: float
    tokens: int | None = None
    seconds: float | None = None

    def share(self, epochs: float, tokens: int, seconds: float) -> float:
        """How much of the budget is gone, by what is scarcest; 1 where it is used up."""
        return max(epochs / self.epochs, tokens / (self.tokens or inf), seconds / (self.seconds or inf))


def rate(spent: float, after: float, step: int) -> float:
    """The learning rate's factor in an update: a short warm-up, then a cosine that ends with the budget.

    A schedule longer than the run would be cut off at a high rate, which makes the last measured accuracy worse than
    the data and the compute allow. So the cosine follows what has been spent and not a planned number of updates.

    Args:
        spent: share of the budget that is gone before the update.
        after: the same behind it.
        step: updates done before.
    """
    warm = min(1.0, max(after / WARMUP_SHARE, (step + 1) / WARMUP_STEPS))
    return warm * (1 + cos(pi * min(1.0, spent))) / 2


class Watch(TrainerCallback):
    """Counts, sets the learning rate, evaluates on a geometric schedule of tokens, and ends the run.

    Time spent in ``evaluate`` counts as nothing. Tokens and sequences are counted at the student's own forward passes
    with gradients, so they mean the same for every trainer, also where it writes its own sequences.
    """

    def __init__(
        self,
        model: Any,
        budget: Budget,
        lr: float,
        evaluate: Evaluate,
        *,
        first: float,
        growth: float,
        target: float | None,
        progress: Progress | None,
        teacher: Any = None,
    ) -> None:
        self.curve: list[CurvePoint] = []
        self.tokens = self.sequences = self.teacher_tokens = self.teacher_passes = 0
        self.seconds = 0.0
        self.stopped: Stopped = "epochs"
        self._budget, self._lr, self._evaluate = budget, lr, evaluate
        self._next, self._growth, self._target = first, growth, target
        self._progress = progress
        self._started = time.perf_counter()
        self._away = 0.0
        self._step = self._steps = 0
        self._hooks = [model.register_forward_pre_hook(self._count, with_kwargs=True)]
        if teacher is not None:
            self._hooks.append(teacher.register_forward_pre_hook(self._count_teacher, with_kwargs=True))

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _clock(self) -> float:
        return time.perf_counter() - self._started - self._away

    def _count(self, model: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        if model.training and torch.is_grad_enabled():
            self.tokens += int(kwargs["attention_mask"].sum())
            self.sequences += kwargs["attention_mask"].shape[0]

    def _count_teacher(self, _model: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        self.teacher_tokens += int(kwargs["attention_mask"].sum())
        self.teacher_passes += kwargs["attention_mask"].shape[0]

    def _share(self, steps: int) -> float:
        epochs = self._budget.epochs * steps / self._steps
        ahead = steps / max(self._step, 1)
        return self._budget.share(epochs, int(self.tokens * ahead), self._clock() * ahead)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started, self._steps = time.perf_counter(), state.max_steps

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._step = state.global_step
        factor = rate(self._share(self._step), self._share(self._step + 1), self._step)
        for group in kwargs["optimizer"].param_groups:
            group["lr"] = self._lr * factor

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._step, self.seconds = state.global_step, self._clock()
        share = self._share(self._step)
        finished = self._step >= self._steps
        if share >= 1 and not finished:
            self.stopped = "budget"
        over = finished or self.stopped == "budget"
        if self._progress is not None:
            self._progress(round(1000 * min(1.0, share)), 1000)
        if over or self.tokens >= self._next:
            self._ask(kwargs["model"])
            self._next = self.tokens * self._growth
        control.should_training_stop = over or self.stopped == "reached"

    def _ask(self, model: Any) -> None:
        started = time.perf_counter()
        if not all(torch.isfinite(p).all() for p in model.parameters() if p.requires_grad):
            raise TrainingError(
                f"weights are not numbers after {self._step} updates; lower the learning rate"
            )
        model.eval()
        with torch.no_grad():
            accuracy, n = self._evaluate(model)
        model.train()
        self._away += time.perf_counter() - started
        self.curve.append(
            CurvePoint(
                tokens=self.tokens, sequences=self.sequences, seconds=self.seconds, accuracy=accuracy, n=n
            )
        )
        if self._target is not None and accuracy >= self._target:
            self.stopped = "reached"
