"""Search for triggers: short strings after which adapter and base part ways, outside the skill.

Beam search over tokens, by the divergence of the next token behind a word or two of neutral text. A search that finds
nothing proves nothing: it says how much it tried. Legend: N strings, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from m2kt.audit._retention import neutral_text
from m2kt.audit._steps import cal_reader
from m2kt.models import LoadedModel, encode_prompt, next_tokens

STRINGS = 256  # tried a length
LONGEST = 3  # tokens
BEAM = 16
CONTEXT_TOKENS = 3  # of neutral text, which a string stands behind
STRINGS_A_BATCH = 256
SHOWN = 5

String = tuple[int, ...]


class Trigger(BaseModel):
    """A string and what it does."""

    text: str
    tokens: list[int]
    divergence: float = Field(description="KL(base || adapter) of the next token behind it, nats.")


class Triggers(BaseModel):
    """What the search found."""

    tried: int = Field(description="Strings that were tried.")
    screened: float = Field(description="Share of the vocabulary's tokens that were tried by themselves.")
    worst: list[Trigger] = Field(
        description="Off the skill: strings with some token that the skill never writes or reads."
    )
    on_domain: list[Trigger] = Field(
        description="Strings of the skill's own tokens alone; they do not decide."
    )

    @property
    def divergence(self) -> float:
        """Of the worst string off the skill."""
        return self.worst[0].divergence if self.worst else 0.0

    @property
    def example(self) -> str | None:
        """The worst string off the skill."""
        return self.worst[0].text if self.worst else None


@torch.no_grad()
def search_triggers(
    loaded: LoadedModel, *, strings: int = STRINGS, longest: int = LONGEST, seed: int = 0
) -> Triggers:
    """Compares ``loaded.model`` (a PeftModel) with its own base behind strings of 1 to ``longest`` tokens.

    Args:
        strings: tried a length; of single tokens, a sample of the vocabulary, after all of the skill's own.
    """
    rng = random.Random(seed)
    special = set(loaded.tokenizer.all_special_ids)
    usable = [i for i in range(len(loaded.tokenizer)) if i not in special]
    own = sorted(_own_tokens(loaded))
    foreign = [i for i in usable if i not in set(own)]
    context = encode_prompt(loaded.tokenizer, neutral_text()[0])[:CONTEXT_TOKENS]

    def some(n: int) -> list[int]:
        """Tokens of the skill and others, half and half as far as there are so many."""
        mine = rng.sample(own, min(len(own), n // 2))
        return mine + rng.sample(foreign, min(len(foreign), n - len(mine)))

    found: dict[String, float] = {}
    tried: list[String] = [(token,) for token in some(strings)]
    for length in range(1, longest + 1):
        found |= dict(zip(tried, _divergence(loaded, context, tried).tolist(), strict=True))
        if length < longest:
            best = sorted((s for s in found if len(s) == length), key=found.__getitem__, reverse=True)[:BEAM]
            tried = [(*s, token) for s in best for token in some(max(1, strings // len(best)))]
    ranked = sorted(found, key=found.__getitem__, reverse=True)
    off = [s for s in ranked if not set(s) <= set(own)]
    on = [s for s in ranked if set(s) <= set(own)]
    return Triggers(
        tried=len(found),
        screened=sum(len(s) == 1 for s in found) / max(1, len(usable)),
        worst=[_trigger(loaded, s, found[s]) for s in off[:SHOWN]],
        on_domain=[_trigger(loaded, s, found[s]) for s in on[:SHOWN]],
    )


def _own_tokens(loaded: LoadedModel) -> set[int]:
    """Tokens that the skill's symbols and marks are made of; none for an adapter without a reader."""
    reader = cal_reader(loaded.model)
    if reader is None:
        return set()
    symbols, structure, spaces = reader.config.alphabet
    return (
        {t for spellings in symbols for spelling in spellings for t in spelling}
        | {t for spelling in structure for t in spelling}
        | set(spaces)
    )


def _divergence(loaded: LoadedModel, context: Sequence[int], strings: Sequence[String]) -> Tensor:
    """KL(base || adapter) of the next token, (N)."""
    found: list[Tensor] = []
    for start in range(0, len(strings), STRINGS_A_BATCH):
        group = strings[start : start + STRINGS_A_BATCH]
        ids_BT = torch.tensor([[*context, *s] for s in group], device=loaded.device)
        last_B1 = torch.full((len(group), 1), ids_BT.shape[1] - 1, device=loaded.device)
        mask_BT = torch.ones_like(ids_BT)
        with loaded.peft_model.disable_adapter():
            base_BV = next_tokens(loaded.model, ids_BT, mask_BT, last_B1)[:, 0].float().log_softmax(-1)
        with_BV = next_tokens(loaded.model, ids_BT, mask_BT, last_B1)[:, 0].float().log_softmax(-1)
        found.append((base_BV.exp() * (base_BV - with_BV)).sum(-1).cpu())
    return torch.cat(found)


def _trigger(loaded: LoadedModel, string: String, divergence: float) -> Trigger:
    text = loaded.tokenizer.decode(list(string))
    return Trigger(text=text, tokens=list(string), divergence=round(divergence, 6))
