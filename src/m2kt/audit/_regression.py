"""Can the student still do what it could? Small tasks of English, each a choice between two texts by their likelihood.

A decision is the text with the larger sum of log p(token | those before). What the frozen student decides is the
reference, so a tiny one is asked no more than it could do before.

Legend: B texts, T tokens, V vocabulary.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from importlib.resources import files
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, Field

from m2kt.models import LoadedModel, encode_prompt, pad_batch

TEXTS_A_BATCH = 16  # bounds the logits, which are as wide as the vocabulary


class Choice(NamedTuple):
    """Two texts that share their beginning; nothing but the common language says which is the better one."""

    name: str
    good: str
    bad: str


class Regression(BaseModel):
    """How the small tasks are decided, without and with the adapter."""

    n: int = Field(description="Tasks decided.")
    before: float = Field(description="Share that the frozen student decides for the better text.")
    after: float = Field(description="The same with the adapter.")
    lost: list[str] = Field(description="Tasks that only the frozen student decides for the better text.")
    gained: list[str] = Field(description="Tasks that only the adapter decides so.")
    unwritable: int = Field(description="Tasks left out: to this tokenizer both texts are the same.")

    @property
    def drop(self) -> float:
        """before - after."""
        return self.before - self.after

    @property
    def flips(self) -> float:
        """Share of tasks that the adapter decides otherwise than the frozen student."""
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
    """The tasks that the project ships."""
    text = files("m2kt.audit").joinpath("regression.jsonl").read_text(encoding="utf-8")
    return [Choice(**json.loads(line)) for line in text.splitlines() if line.strip()]


@torch.no_grad()
def measure_regression(loaded: LoadedModel) -> Regression:
    """Lets ``loaded.model`` (a PeftModel) and its own base, adapter off, decide every task."""
    tasks = regression_tasks()
    pairs = [(encode_prompt(loaded.tokenizer, t.good), encode_prompt(loaded.tokenizer, t.bad)) for t in tasks]
    usable = [(task.name, pair) for task, pair in zip(tasks, pairs, strict=True) if pair[0] != pair[1]]
    texts = [ids for _, pair in usable for ids in pair]
    before = _decide(loaded, texts, loaded.model.disable_adapter)
    after = _decide(loaded, texts, nullcontext)
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


def _decide(loaded: LoadedModel, texts: list[list[int]], switch: Any) -> list[bool]:
    """Whether the first of each two texts is the likelier one; not so where one of them is no number."""
    score: list[float] = []
    for start in range(0, len(texts), TEXTS_A_BATCH):
        ids_BT, mask_BT = pad_batch(
            texts[start : start + TEXTS_A_BATCH], loaded.pad_id, side="right", device=loaded.device
        )
        score += _log_likelihood(loaded.model, ids_BT, mask_BT, switch()).tolist()
    return [good > bad for good, bad in zip(score[::2], score[1::2], strict=True)]


def _log_likelihood(
    model: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, switch: AbstractContextManager[Any]
) -> torch.Tensor:
    """Sum of log p over all tokens but the first, (B,)."""
    with switch:
        logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
    log_p_BT = logits_BTV[:, :-1].float().log_softmax(-1).gather(-1, ids_BT[:, 1:, None])[..., 0]
    return log_p_BT.masked_fill(~mask_BT[:, 1:].bool(), 0.0).sum(-1)  # type: ignore[no-any-return]
