"""Keeping silent: text that has nothing to do with the skill, over which the reader learns to add nothing.

No text has to be supplied for it. Some lines are sampled from the frozen student before training; most are scraps of
made-up traces and random tokens thrown together, because what the student writes of itself may never hold the skill's
own symbols and marks in another order than the skill's. With steering off, the states that the reader reads do not
change during training, so they are computed once and a whole update costs next to nothing.

Letters: L lines, T tokens, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from m2kt.models import cache_argument, decoder, special_prefix
from m2kt.student.cal import CALConfig, CALModel, Run

OWN_LINES = 16
THROWN_LINES = 96
LONGEST_SCRAP = 3


def quiet_lines(
    model: Any, tokenizer: Any, traces: Sequence[Sequence[int]], length: int, seed: int
) -> Tensor:
    """Lines to keep silent on, (L, T): the student's own, then scraps thrown together.

    Args:
        traces: made-up traces in the student's tokens, to take scraps from.
        length: tokens a line, special prefix included.
    """
    special = set(tokenizer.all_special_ids)
    usable = [i for i in range(len(tokenizer)) if i not in special]
    prefix = special_prefix(tokenizer)
    own_LT = _own_lines(model, torch.tensor(prefix, dtype=torch.long), torch.tensor(usable), length, seed)
    thrown = _thrown_lines(
        [t[len(prefix) :] for t in traces], usable, length - len(prefix), random.Random(seed)
    )
    thrown_LT = torch.tensor([[*prefix, *line] for line in thrown], device=own_LT.device)
    return torch.cat([own_LT, thrown_LT])


@torch.no_grad()
def _own_lines(model: Any, prefix: Tensor, usable_V: Tensor, length: int, seed: int) -> Tensor:
    """Lines that the student samples by itself, each from another first token."""
    generator = torch.Generator().manual_seed(seed)
    device = model.get_input_embeddings().weight.device
    first = usable_V[torch.randint(len(usable_V), (OWN_LINES,), generator=generator)]
    ids_LT = torch.cat([prefix.expand(OWN_LINES, -1), first[:, None]], 1).to(device)
    cache: Any = None
    kept = cache_argument(model)
    step = ids_LT
    mask_LT = torch.ones_like(ids_LT)
    for _ in range(length - ids_LT.shape[1]):
        out = model(input_ids=step, attention_mask=mask_LT, use_cache=True, **{kept: cache})
        cache = out[kept]
        chances = out.logits[:, -1].float().softmax(-1).cpu()
        step = torch.multinomial(chances, 1, generator=generator).to(device)
        ids_LT = torch.cat([ids_LT, step], 1)
        mask_LT = torch.ones_like(ids_LT)
    return ids_LT


def _thrown_lines(
    traces: Sequence[Sequence[int]], usable: Sequence[int], length: int, rng: random.Random
) -> list[list[int]]:
    """Scraps of a few tokens from anywhere in the traces between random tokens; the share of scraps differs by line."""
    lines = []
    for _ in range(THROWN_LINES):
        share, line = rng.random(), list[int]()
        while len(line) < length:
            if rng.random() < share:
                trace = rng.choice(traces)
                start = rng.randrange(len(trace))
                line += trace[start : start + rng.randint(1, LONGEST_SCRAP)]
            else:
                line.append(rng.choice(usable))
        lines.append(line[:length])
    return lines


class OffDomainLoss:
    """The silence term.

    -log p(none) on lines outside the skill, and KL to the frozen student where that is asked for.
    """

    def __init__(
        self, tuner: CALModel, line_LT: Tensor, config: CALConfig, a_time: int, retain: float
    ) -> None:
        self.tuner, self.line_LT, self.config, self.a_time, self.retain = (
            tuner,
            line_LT,
            config,
            a_time,
            retain,
        )
        self.n_tokens = min(a_time, len(line_LT)) * line_LT.shape[1]  # an update
        self.fixed = config.steering_rank == 0
        self.order = torch.Generator().manual_seed(0)
        with torch.no_grad():
            tuner.disable_adapter_layers()
            self.logits_LTV = tuner.model(input_ids=line_LT, use_cache=False).logits if retain else None
            tuner.enable_adapter_layers()
            self.taps = tuner.states_read(line_LT, torch.ones_like(line_LT)) if self.fixed else {}

    def __call__(self) -> Tensor:
        """The loss on the next few lines."""
        chosen = torch.randperm(len(self.line_LT), generator=self.order)[: self.a_time]
        token_LT = self.line_LT[chosen]
        reader = self.tuner.reader()
        if self.fixed and not self.retain:
            taps = {layer: h[chosen] for layer, h in self.taps.items()}
            return -reader.silence(self.tuner.reading(token_LT, None, taps))
        result = decoder(self.tuner.model)(input_ids=token_LT, use_cache=False)
        run = cast(Run, self.tuner.last_run)
        loss = -reader.silence(run)
        if self.retain and self.logits_LTV is not None:
            logits_LTV = self.tuner.model.get_output_embeddings()(result.last_hidden_state)
            divergence = functional.kl_div(
                logits_LTV.float().log_softmax(-1).flatten(0, 1),
                self.logits_LTV[chosen].float().log_softmax(-1).flatten(0, 1),
                log_target=True,
                reduction="batchmean",
            )
            loss = loss + self.retain * divergence
        return loss
