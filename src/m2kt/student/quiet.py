"""Keeping silent: text that has nothing to do with the skill, over which the reader learns to add nothing.

No text has to be supplied for it. Half of the lines are sampled from the frozen student before training; half are
tokens thrown together, the skill's own among them, because what the student writes of itself may never hold the
skill's symbols in another order than the skill's. With steering off, the states that the reader reads do not change
during training, so they are computed once and a whole update costs next to nothing.

Letters: L lines, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from m2kt.models import special_prefix
from m2kt.student.cal import CALConfig, CALModel, Run, decoder

OWN_LINES = 16
THROWN_LINES = 32


def quiet_lines(model: Any, tokenizer: Any, skill_tokens: Sequence[int], length: int, seed: int) -> Tensor:
    """Lines to keep silent on, (L, T): the student's own, then tokens thrown together.

    Args:
        skill_tokens: tokens that write the skill's units; in each thrown line they have another share.
        length: tokens a line, special prefix included.
    """
    generator = torch.Generator().manual_seed(seed)
    special = set(tokenizer.all_special_ids)
    usable_V = torch.tensor([i for i in range(len(tokenizer)) if i not in special])
    device = model.get_input_embeddings().weight.device
    prefix = torch.tensor(special_prefix(tokenizer), dtype=torch.long)
    own_LT = _own_lines(model, prefix, usable_V, length, generator)
    thrown_LT = _thrown_lines(prefix, usable_V, torch.tensor(skill_tokens), length, generator)
    return torch.cat([own_LT, thrown_LT.to(device)])


@torch.no_grad()
def _own_lines(
    model: Any, prefix: Tensor, usable_V: Tensor, length: int, generator: torch.Generator
) -> Tensor:
    """Lines that the student samples by itself, each from another first token."""
    device = model.get_input_embeddings().weight.device
    first = usable_V[torch.randint(len(usable_V), (OWN_LINES,), generator=generator)]
    ids_LT = torch.cat([prefix.expand(OWN_LINES, -1), first[:, None]], 1).to(device)
    cache: Any = None
    step = ids_LT
    mask_LT = torch.ones_like(ids_LT)
    for _ in range(length - ids_LT.shape[1]):
        out = model(input_ids=step, attention_mask=mask_LT, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        chances = out.logits[:, -1].float().softmax(-1).cpu()
        step = torch.multinomial(chances, 1, generator=generator).to(device)
        ids_LT = torch.cat([ids_LT, step], 1)
        mask_LT = torch.ones_like(ids_LT)
    return ids_LT


def _thrown_lines(
    prefix: Tensor, usable_V: Tensor, skill_N: Tensor, length: int, generator: torch.Generator
) -> Tensor:
    shape = (THROWN_LINES, length - len(prefix))
    any_LT = usable_V[torch.randint(len(usable_V), shape, generator=generator)]
    skill_LT = skill_N[torch.randint(len(skill_N), shape, generator=generator)]
    share_L1 = torch.rand(THROWN_LINES, 1, generator=generator)
    thrown_LT = torch.where(torch.rand(shape, generator=generator) < share_L1, skill_LT, any_LT)
    return torch.cat([prefix.expand(THROWN_LINES, -1), thrown_LT], 1)


class Quiet:
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
            run = self.tuner.state.begin(token_LT, None, None)
            self.tuner.state.run = None
            run.taps = {layer: h[chosen] for layer, h in self.taps.items()}
            return -reader.silence(run)
        result = decoder(self.tuner.model)(input_ids=token_LT, use_cache=False)
        run = cast(Run, self.tuner.state.last)
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
