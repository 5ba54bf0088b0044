"""Off-domain lines: text unrelated to the skill, on which the reader learns to inject nothing.

No text is supplied for it. Some lines are sampled from the frozen student; most mix fragments of rehearsal traces with
random tokens, because the student's samples may not contain the skill's symbols in another order than the skill's.

Letters: N lines, T tokens, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from m2kt.models import cache_argument, decoder, special_prefix
from m2kt.student.cal import CALConfig, CALModel
from m2kt.student.losses import Outputs

STUDENT_LINES = 16
MIXED_LINES = 96
MAX_FRAGMENT = 3


def sample_off_domain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    traces: Sequence[Sequence[int]],
    length: int,
    seed: int,
) -> Tensor:
    """Off-domain lines, (N, T): samples of the student, then fragments mixed with random tokens.

    Args:
        traces: rehearsal traces in the student's tokens, for the fragments.
        length: tokens of a line with the special prefix.
    """
    special = set(tokenizer.all_special_ids)
    vocabulary = [i for i in range(len(tokenizer)) if i not in special]
    prefix = special_prefix(tokenizer)
    student_NT = _student_lines(model, torch.tensor(prefix, dtype=torch.long), torch.tensor(vocabulary), length, seed)
    mixed = _mixed_lines(
        [trace[len(prefix) :] for trace in traces], vocabulary, length - len(prefix), random.Random(seed)
    )
    mixed_NT = torch.tensor([[*prefix, *line] for line in mixed], device=student_NT.device)
    return torch.cat([student_NT, mixed_NT])


@torch.no_grad()
def _student_lines(model: PreTrainedModel, prefix: Tensor, vocabulary_V: Tensor, length: int, seed: int) -> Tensor:
    """Lines sampled from the student, each from a random first token."""
    generator = torch.Generator().manual_seed(seed)
    device = cast(Tensor, model.get_input_embeddings().weight).device
    first_N = vocabulary_V[torch.randint(len(vocabulary_V), (STUDENT_LINES,), generator=generator)]
    ids_NT = torch.cat([prefix.expand(STUDENT_LINES, -1), first_N[:, None]], 1).to(device)
    cache_name, cache = cache_argument(model), None
    step_NT, mask_NT = ids_NT, torch.ones_like(ids_NT)
    for _ in range(length - ids_NT.shape[1]):
        out = model(input_ids=step_NT, attention_mask=mask_NT, use_cache=True, **{cache_name: cache})
        cache = out[cache_name]
        p_NV = out.logits[:, -1].float().softmax(-1).cpu()
        step_NT = torch.multinomial(p_NV, 1, generator=generator).to(device)
        ids_NT = torch.cat([ids_NT, step_NT], 1)
        mask_NT = torch.ones_like(ids_NT)
    return ids_NT


def _mixed_lines(
    traces: Sequence[Sequence[int]], vocabulary: Sequence[int], length: int, rng: random.Random
) -> list[list[int]]:
    """Fragments of traces between random tokens; the share of fragments differs by line."""
    lines = []
    for _ in range(MIXED_LINES):
        share, line = rng.random(), list[int]()
        while len(line) < length:
            if rng.random() < share:
                trace = rng.choice(traces)
                start = rng.randrange(len(trace))
                line += trace[start : start + rng.randint(1, MAX_FRAGMENT)]
            else:
                line.append(rng.choice(vocabulary))
        lines.append(line[:length])
    return lines


class OffDomainPass:
    """Passes over a few random off-domain lines, for :class:`m2kt.student.losses.OffDomainLoss`.

    With steering off the states that the reader reads do not change during training: they are computed once.

    Args:
        lines: lines of each pass.
        divergence: whether to compare with the frozen student's logits.
        seed: of the order of lines.
    """

    def __init__(self, tuner: CALModel, token_NT: Tensor, *, lines: int, divergence: bool, seed: int) -> None:
        config = cast(CALConfig, tuner.peft_config[tuner.active_adapters[0]])
        self.tuner, self.token_NT, self.config, self.lines = tuner, token_NT, config, lines
        self.n_tokens = min(lines, len(token_NT)) * token_NT.shape[1]
        self.frozen = config.steering_rank == 0
        self.generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            tuner.disable_adapter_layers()
            self.logits_NTV = tuner.model(input_ids=token_NT, use_cache=False).logits if divergence else None
            tuner.enable_adapter_layers()
            self.states = tuner.read_states(token_NT, torch.ones_like(token_NT)) if self.frozen else {}

    def draw(self) -> Tensor:
        """Indices of the next lines."""
        return torch.randperm(len(self.token_NT), generator=self.generator)[: self.lines]

    def __call__(self) -> Outputs:
        """One pass over the next lines."""
        chosen = self.draw()
        token_NT, reader = self.token_NT[chosen], self.tuner.reader()
        outputs = Outputs(self.config)
        if self.frozen and self.logits_NTV is None:
            states = {layer: h[chosen] for layer, h in self.states.items()}
            outputs.log_none = reader.gating(self.tuner.reader_only_run(token_NT, None, states))
            return outputs
        with self.tuner.observed() as runs:
            hidden_NTE = decoder(self.tuner.model)(input_ids=token_NT, use_cache=False).last_hidden_state
        outputs.log_none = reader.gating(runs[-1])
        if self.logits_NTV is not None:
            logits_NTV = self.tuner.model.get_output_embeddings()(hidden_NTE)
            outputs.divergence = functional.kl_div(
                logits_NTV.float().log_softmax(-1).flatten(0, 1),
                self.logits_NTV[chosen].float().log_softmax(-1).flatten(0, 1),
                log_target=True,
                reduction="batchmean",
            )
        return outputs
