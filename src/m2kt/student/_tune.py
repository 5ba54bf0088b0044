"""Supervised fine-tuning of a model's trainable parameters, regularised to its earlier predictions on other text.

Letters: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from m2kt.errors import CompatibilityError, TrainingError
from m2kt.models import ChatFormat, LoadedModel, context_length, encode_chat, pad_batch
from m2kt.student._batching import IGNORE

Item = TypeVar("Item")
LabelledTokens = tuple[list[int], list[int]]
"""Tokens, and labels: ``IGNORE`` for the prompt."""
MaskedTokens = tuple[Tensor, Tensor]
"""Tokens and mask, (B, T)."""
REGULARISE_EVERY = 4
"""Updates from one regularisation batch to the next."""


def labelled_tokens(
    loaded: LoadedModel, pairs: Sequence[tuple[str, str]], chat: ChatFormat | None = None
) -> list[LabelledTokens]:
    """Encode pairs of prompt and answer; only answers have labels.

    Args:
        chat: how prompts are put to the model; None: as plain text.

    Raises:
        CompatibilityError: a pair is longer than the model's context.
    """
    max_tokens = context_length(loaded.model)
    rows: list[LabelledTokens] = []
    for prompt, answer in pairs:
        encoded = encode_chat(loaded.tokenizer, [prompt, answer], 1, chat)
        if len(encoded.ids) > max_tokens:
            raise CompatibilityError(
                f"prompt {prompt!r} with its answer: expected at most the {max_tokens} tokens of {loaded.name}'s "
                f"context, got {len(encoded.ids)}; choose a model with a longer context"
            )
        units = zip(encoded.ids, encoded.unit_of_token, strict=True)
        rows.append((encoded.ids, [token if unit == 1 else IGNORE for token, unit in units]))
    return rows


def answer_loss(loaded: LoadedModel, rows: Sequence[LabelledTokens]) -> tuple[Tensor, int]:
    """Mean -log p(answer token) in nats, and the number of tokens of the pass."""
    ids_BT, mask_BT = pad_batch([ids for ids, _ in rows], loaded.pad_id, side="right", device=loaded.device)
    label_BT, _ = pad_batch([labels for _, labels in rows], IGNORE, side="right", device=loaded.device)
    logits_BTV = loaded.model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
    loss = functional.cross_entropy(
        logits_BTV[:, :-1].flatten(0, 1).float(), label_BT[:, 1:].flatten(), ignore_index=IGNORE
    )
    return loss, int(mask_BT.sum())


def endless_batches(items: Sequence[Item], n: int, seed: int) -> Iterator[list[Item]]:
    """Batches of ``n``; all items in a new order each epoch."""
    rng = random.Random(seed)
    stream = (item for _ in itertools.count() for item in rng.sample(items, len(items)))
    while items:
        yield list(itertools.islice(stream, n))


def fine_tune(
    loaded: LoadedModel,
    rows: Iterator[list[LabelledTokens]],
    regularisation: Sequence[MaskedTokens],
    reference: Callable[[int], Tensor],
    *,
    updates: int,
    lr: float,
    watch: Callable[[int, float], bool] | None = None,
) -> int:
    """Train by AdamW under a one-cycle rate; returns the number of tokens read forward and backward.

    Args:
        rows: one batch for each update.
        regularisation: batches of text on which the model's predictions are to stay the same.
        reference: log probabilities to keep, (B, T, V), of a regularisation batch by its index.
        watch: called with (updates done, loss); True ends the training.

    Raises:
        TrainingError: the loss is not finite.
    """
    model = loaded.model
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=updates, pct_start=0.05)
    model.train()
    n_tokens = 0
    for update in range(updates):
        loss, n = answer_loss(loaded, next(rows))
        n_tokens += n
        if regularisation and update % REGULARISE_EVERY == 0:
            i = update // REGULARISE_EVERY % len(regularisation)
            ids_BT, mask_BT = regularisation[i]
            reference_BTV = reference(i)
            logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
            kl_BT = functional.kl_div(
                logits_BTV.float().log_softmax(-1), reference_BTV, log_target=True, reduction="none"
            ).sum(-1)
            loss = loss + kl_BT[mask_BT.bool()].mean()
            n_tokens += int(mask_BT.sum())
        if not torch.isfinite(loss):
            raise TrainingError(
                f"update {update}: expected a finite loss, got {float(loss.detach())}; lower the learning rate, or use "
                "fp32"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if watch is not None and watch(update + 1, float(loss.detach())):
            break
    model.eval()
    return n_tokens
