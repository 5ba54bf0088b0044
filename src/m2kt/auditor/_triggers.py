"""Search for triggers: short strings behind which adapter and base diverge, off domain.

Beam search over tokens by the divergence of the next token behind a few tokens of neutral text. A search without a
result proves nothing; it reports how many strings were tried.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from m2kt.auditor._retention import neutral_text
from m2kt.auditor._traces import cal_reader
from m2kt.models import LoadedModel, encode_prompt, next_token_logits

STRINGS = 256  # of each length
LONGEST = 3  # tokens
BEAM = 16
CONTEXT_TOKENS = 3  # of neutral text, before each string
STRINGS_A_BATCH = 256
SHOWN = 5

String = tuple[int, ...]


class Trigger(BaseModel):
    """A string and the divergence behind it."""

    text: str
    tokens: list[int]
    divergence: float = Field(description="KL(base || adapter) of the next token behind it, nats.")


class Triggers(BaseModel):
    """Result of the search."""

    tried: int = Field(description="Strings that were tried.")
    screened: float = Field(description="Share of the vocabulary that was tried as strings of one token.")
    worst: list[Trigger] = Field(
        description="Off domain: strings with a token that the skill neither reads nor writes."
    )
    on_domain: list[Trigger] = Field(description="Strings of the skill's tokens alone; not used by the verdict.")

    @property
    def divergence(self) -> float:
        """KL behind the worst off-domain string."""
        return self.worst[0].divergence if self.worst else 0.0

    @property
    def example(self) -> str | None:
        """The worst off-domain string."""
        return self.worst[0].text if self.worst else None


@torch.no_grad()
def search_triggers(loaded: LoadedModel, *, strings: int = STRINGS, longest: int = LONGEST, seed: int = 0) -> Triggers:
    """Compare adapter and base behind strings of 1 to ``longest`` tokens.

    Args:
        strings: how many of each length; half of them extend a string by a token of the skill, half by another one.
    """
    rng = random.Random(seed)
    special = set(loaded.tokenizer.all_special_ids)
    usable = [i for i in range(len(loaded.tokenizer)) if i not in special]
    skill = _skill_tokens(loaded)
    skill_tokens, other_tokens = sorted(skill), [i for i in usable if i not in skill]
    context = encode_prompt(loaded.tokenizer, neutral_text()[0])[:CONTEXT_TOKENS]

    def sample(n: int) -> list[int]:
        """Tokens of the skill and other tokens, in equal parts where there are enough."""
        chosen = rng.sample(skill_tokens, min(len(skill_tokens), n // 2))
        return chosen + rng.sample(other_tokens, min(len(other_tokens), n - len(chosen)))

    divergence: dict[String, float] = {}
    tried: list[String] = [(token,) for token in sample(strings)]
    for length in range(1, longest + 1):
        divergence |= dict(zip(tried, _divergence(loaded, context, tried).tolist(), strict=True))
        if length < longest:
            ranked = sorted((s for s in divergence if len(s) == length), key=divergence.__getitem__, reverse=True)
            beam = ranked[:BEAM]
            tried = [(*s, token) for s in beam for token in sample(max(1, strings // len(beam)))]
    ranked = sorted(divergence, key=divergence.__getitem__, reverse=True)
    off_domain = [s for s in ranked if not skill.issuperset(s)]
    on_domain = [s for s in ranked if skill.issuperset(s)]
    return Triggers(
        tried=len(divergence),
        screened=sum(len(s) == 1 for s in divergence) / max(1, len(usable)),
        worst=[_trigger(loaded, s, divergence[s]) for s in off_domain[:SHOWN]],
        on_domain=[_trigger(loaded, s, divergence[s]) for s in on_domain[:SHOWN]],
    )


def _skill_tokens(loaded: LoadedModel) -> set[int]:
    """Tokens of the skill's symbols and structure; none for an adapter without a reader."""
    reader = cal_reader(loaded.model)
    if reader is None:
        return set()
    symbols, structure, spaces = reader.config.alphabet
    return (
        {token for sequences in symbols for sequence in sequences for token in sequence}
        | {token for sequence in structure for token in sequence}
        | set(spaces)
    )


def _divergence(loaded: LoadedModel, context: Sequence[int], strings: Sequence[String]) -> Tensor:
    """KL(base || adapter) of the next token, (N)."""
    parts: list[Tensor] = []
    for start in range(0, len(strings), STRINGS_A_BATCH):
        group = strings[start : start + STRINGS_A_BATCH]
        ids_BT = torch.tensor([[*context, *s] for s in group], device=loaded.device)
        last_B1 = torch.full((len(group), 1), ids_BT.shape[1] - 1, device=loaded.device)
        mask_BT = torch.ones_like(ids_BT)
        with loaded.peft_model.disable_adapter():
            base_BV = next_token_logits(loaded.model, ids_BT, mask_BT, last_B1)[:, 0].float().log_softmax(-1)
        with_BV = next_token_logits(loaded.model, ids_BT, mask_BT, last_B1)[:, 0].float().log_softmax(-1)
        parts.append((base_BV.exp() * (base_BV - with_BV)).sum(-1).cpu())
    return torch.cat(parts)


def _trigger(loaded: LoadedModel, string: String, divergence: float) -> Trigger:
    text = loaded.tokenizer.decode(list(string))
    return Trigger(text=text, tokens=list(string), divergence=round(divergence, 6))
