"""Keeping silent: text that the frozen student makes up itself, over which the reader learns to add nothing.

No text has to be supplied for it: lines are sampled from the student before training. With steering off, the
states that the reader reads do not change during training, so they are computed once and a whole update costs
next to nothing.

Letters: L lines, T tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from m2kt.models import special_prefix
from m2kt.student.cal import CALConfig, CALModel, Run, decoder

LINES = 12


@torch.no_grad()
def own_lines(model: Any, tokenizer: Any, length: int, seed: int, n: int = LINES) -> Tensor:
    """Lines that the student samples by itself, (L, T), each from another first token."""
    device = model.get_input_embeddings().weight.device
    generator = torch.Generator().manual_seed(seed)
    special = set(tokenizer.all_special_ids)
    usable = [i for i in range(len(tokenizer)) if i not in special]
    first = torch.tensor(usable)[torch.randint(len(usable), (n,), generator=generator)]
    prefix = torch.tensor(special_prefix(tokenizer), dtype=torch.long).expand(n, -1)
    ids_LT = torch.cat([prefix, first[:, None]], 1).to(device)
    cache: Any = None
    step = ids_LT
    for _ in range(length - ids_LT.shape[1]):
        out = model(input_ids=step, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        chances = out.logits[:, -1].float().softmax(-1).cpu()
        step = torch.multinomial(chances, 1, generator=generator).to(device)
        ids_LT = torch.cat([ids_LT, step], 1)
    return ids_LT


class Quiet:
    """The silence term.

    -log p(none) on the student's own lines, and KL to the frozen student where that is asked for.
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
        self.next = 0
        with torch.no_grad():
            tuner.disable_adapter_layers()
            self.logits_LTV = tuner.model(input_ids=line_LT, use_cache=False).logits if retain else None
            tuner.enable_adapter_layers()
            self.taps = self._pass(line_LT).taps if self.fixed else {}

    def _pass(self, token_LT: Tensor) -> Run:
        decoder(self.tuner.model)(input_ids=token_LT, use_cache=False)
        return cast(Run, self.tuner.state.last)

    def __call__(self) -> Tensor:
        """The loss on the next few lines."""
        chosen = torch.arange(self.next, self.next + self.a_time) % len(self.line_LT)
        self.next += self.a_time
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
