"""Supervised fine-tuning of whatever is trainable in a model, while what it thinks of other text is kept.

Legend: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from m2kt.errors import CompatibilityError, TrainingError
from m2kt.models import LoadedModel, context_length, encode_units, pad_batch
from m2kt.student._batching import IGNORE

T = TypeVar("T")
LabelledTokens = tuple[list[int], list[int]]
"""Tokens, and labels: ``IGNORE`` where nothing is learnt."""
Batch = tuple[Tensor, Tensor]
"""Tokens and mask, (B, T)."""
KEEP_EVERY = 4
"""Updates between two looks at what is to be kept."""


def labelled_tokens(loaded: LoadedModel, pairs: Sequence[tuple[str, str]]) -> list[LabelledTokens]:
    """(prompt, answer) in tokens, the prompt as it is asked; the answer alone is learnt.

    Raises:
        CompatibilityError: a pair is longer than the model's context.
    """
    room, found = context_length(loaded.model), list[LabelledTokens]()
    for prompt, answer in pairs:
        encoded = encode_units(loaded.tokenizer, [prompt, answer], prompt_boundary=1)
        if len(encoded.ids) > room:
            raise CompatibilityError(
                f"{loaded.name} writes the answer to {prompt!r} in {len(encoded.ids)} tokens and reads {room} at most"
            )
        units = zip(encoded.ids, encoded.unit_of_token, strict=True)
        found.append((encoded.ids, [token if unit == 1 else IGNORE for token, unit in units]))
    return found


def answer_loss(loaded: LoadedModel, rows: Sequence[LabelledTokens]) -> tuple[Tensor, int]:
    """Mean -log p(answer token), nats, and how many tokens were read."""
    ids_BT, mask_BT = pad_batch([ids for ids, _ in rows], loaded.pad_id, side="right", device=loaded.device)
    label_BT, _ = pad_batch([labels for _, labels in rows], IGNORE, side="right", device=loaded.device)
    logits_BTV = loaded.model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
    loss = functional.cross_entropy(
        logits_BTV[:, :-1].flatten(0, 1).float(), label_BT[:, 1:].flatten(), ignore_index=IGNORE
    )
    return loss, int(mask_BT.sum())


def endless_batches(items: Sequence[T], n: int, seed: int) -> Iterator[list[T]]:
    """Batches of ``n``, all items in ever new order."""
    rng = random.Random(seed)
    stream = (item for _ in itertools.count() for item in rng.sample(items, len(items)))
    while items:
        yield list(itertools.islice(stream, n))


def fine_tune(
    loaded: LoadedModel,
    rows: Iterator[list[LabelledTokens]],
    kept: Sequence[Batch],
    think: Callable[[int], Tensor],
    *,
    updates: int,
    lr: float,
    watch: Callable[[int, float], bool] | None = None,
) -> int:
    """Trains by AdamW under a one-cycle rate; the tokens that were read forward and backward.

    Args:
        rows: one batch an update.
        kept: batches of text on which its opinion is to stay what it was.
        think: what that opinion is, log probabilities (B, T, V) of a batch by its number.
        watch: called with (updates done, loss); True ends the training.

    Raises:
        TrainingError: the loss became NaN.
    """
    model: Any = loaded.model
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=updates, pct_start=0.05)
    model.train()
    tokens = 0
    for update in range(updates):
        loss, n = answer_loss(loaded, next(rows))
        tokens += n
        if kept and update % KEEP_EVERY == 0:
            k = update // KEEP_EVERY % len(kept)
            ids_BT, mask_BT = kept[k]
            before_BTV = think(k)
            now_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
            kl_BT = functional.kl_div(
                now_BTV.float().log_softmax(-1), before_BTV, log_target=True, reduction="none"
            ).sum(-1)
            loss = loss + kl_BT[mask_BT.bool()].mean()
            tokens += int(mask_BT.sum())
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss of update {update} is {float(loss.detach())}: lower the learning rate, or use fp32"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        if watch is not None and watch(update + 1, float(loss.detach())):
            break
    model.eval()
    return tokens
