"""Short tasks of English that the student could do before: which of two texts is more likely?

The score of a text is the sum of log p(token | tokens before). The frozen student's decision is the reference, so a
tiny student is not asked for more than it could do before.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import NamedTuple

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from m2kt.models import LoadedModel, encode_prompt, pad_batch

TEXTS_A_BATCH = 16  # bounds the logits, B x T x V


class Choice(NamedTuple):
    """Two texts with a common beginning, one of them better English."""

    name: str
    good: str
    bad: str


class Regression(BaseModel):
    """Decisions without and with the adapter."""

    n: int = Field(description="Tasks decided.")
    before: float = Field(description="Share of tasks in which the frozen student prefers the better text.")
    after: float = Field(description="The same with the adapter.")
    lost: list[str] = Field(description="Tasks in which only the frozen student prefers the better text.")
    gained: list[str] = Field(description="Tasks in which only the student with the adapter prefers it.")
    unwritable: int = Field(description="Tasks left out: the tokenizer writes both texts alike.")

    @property
    def drop(self) -> float:
        """before - after."""
        return self.before - self.after

    @property
    def flips(self) -> float:
        """Share of tasks decided differently than before."""
        return self.n_flipped / self.n if self.n else 0.0

    @property
    def n_flipped(self) -> int:
        """Tasks decided differently than before."""
        return len(self.lost) + len(self.gained)

    @property
    def example(self) -> str | None:
        """A task decided differently than before."""
        return next(iter((*self.lost, *self.gained)), None)


def regression_tasks() -> list[Choice]:
    """The tasks that ship with the package."""
    text = files("m2kt.auditor").joinpath("regression.jsonl").read_text(encoding="utf-8")
    return [Choice(**json.loads(line)) for line in text.splitlines() if line.strip()]


@torch.no_grad()
def measure_regression(loaded: LoadedModel) -> Regression:
    """Decide every task with the adapter of ``loaded`` off, then on."""
    tasks = regression_tasks()
    pairs = [(encode_prompt(loaded.tokenizer, t.good), encode_prompt(loaded.tokenizer, t.bad)) for t in tasks]
    usable = [(task.name, pair) for task, pair in zip(tasks, pairs, strict=True) if pair[0] != pair[1]]
    texts = [ids for _, pair in usable for ids in pair]
    with loaded.peft_model.disable_adapter():
        before = _decide(loaded, texts)
    after = _decide(loaded, texts)
    names = [name for name, _ in usable]
    n = len(names)
    return Regression(
        n=n,
        before=sum(before) / n if n else 0.0,
        after=sum(after) / n if n else 0.0,
        lost=[name for name, b, a in zip(names, before, after, strict=True) if b and not a],
        gained=[name for name, b, a in zip(names, before, after, strict=True) if a and not b],
        unwritable=len(tasks) - n,
    )


def _decide(loaded: LoadedModel, texts: list[list[int]]) -> list[bool]:
    """Whether the first text of each pair is more likely; False if a likelihood is NaN."""
    score: list[float] = []
    for start in range(0, len(texts), TEXTS_A_BATCH):
        ids_BT, mask_BT = pad_batch(
            texts[start : start + TEXTS_A_BATCH], loaded.pad_id, side="right", device=loaded.device
        )
        score += _log_likelihood(loaded, ids_BT, mask_BT).tolist()
    return [good > bad for good, bad in zip(score[::2], score[1::2], strict=True)]


def _log_likelihood(loaded: LoadedModel, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Sum of log p over all tokens but the first, (B,)."""
    logits_BTV = loaded.model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
    log_p_BT = logits_BTV[:, :-1].float().log_softmax(-1).gather(-1, ids_BT[:, 1:, None])[..., 0]
    sum_B: Tensor = log_p_BT.masked_fill(~mask_BT[:, 1:].bool(), 0.0).sum(-1)
    return sum_B
