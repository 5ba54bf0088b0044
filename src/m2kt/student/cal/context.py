"""What a reader must know about the running forward pass besides hidden states: tokens, padding, positions, the cache.

Letters: B sequences, T tokens of this pass, N tokens seen so far (cached ones included), S symbols, K concepts,
P pool states, F width of phi's trunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from m2kt.errors import CompatibilityError


class Slot(IntEnum):
    """What a reader keeps in a cache between passes, each in a pseudo layer of its own."""

    FACTS = 0  # tokens, and what stands at them
    LOOKS = 1
    GATHERS = 2
    HELD = 3  # what is being written


_BEGUN = -1  # known only as the beginning of a form


class UnitMatcher:
    """Reads units off tokens: which symbol or literal ends here, and whether a unit seems to be under way.

    Matching is by n-gram suffix and the longest match wins. Where a literal is spelled like a symbol, the symbol wins.
    """

    def __init__(
        self,
        symbol_tokens: Sequence[Sequence[Sequence[int]]],
        literal_tokens: Sequence[Sequence[int]] = (),
        spaces: Sequence[int] = (),
    ) -> None:
        self.spaces = frozenset(spaces)
        self.n_symbols = len(symbol_tokens)
        self.n_units = self.n_symbols + len(literal_tokens)
        symbols = {tuple(form): s for s, forms in enumerate(symbol_tokens) for form in forms}
        literals = {tuple(form): self.n_symbols + u for u, form in enumerate(literal_tokens) if form}
        spelled = literals | symbols
        begun = {form[:n] for form in spelled for n in range(1, len(form))}
        self.longest = max(map(len, spelled), default=1)
        self._known = {form: spelled.get(form, _BEGUN) for form in begun | spelled.keys()}
        self._begun = begun

    def __call__(self, token_BN: Tensor) -> Tensor:
        """What stands at each token, (B, N, 4): symbol, unit, length, looks.

        Symbol that ends there (``n_symbols``: none), unit that does (``n_units``: none). The length says how many
        tokens back what came before ends: that of the unit, of one under way, or one. Looks are those of the unit with
        symbols masked: 0 for any symbol, 1 for one behind a space, then structure.

        Padding is marked by negative tokens.
        """
        # In Python: a step of generation is one token a row, for which a dictionary beats dozens of tiny tensor ops.
        found = [[self._at(row, end) for end in range(1, len(row) + 1)] for row in token_BN.tolist()]
        return torch.tensor(found, dtype=torch.long, device=token_BN.device).reshape(*token_BN.shape, 4)

    def _at(self, row: list[int], end: int) -> tuple[int, int, int, int]:
        literal, length, under_way = self.n_units, 1, 0
        for n in range(min(self.longest, end), 0, -1):
            form = tuple(row[end - n : end])
            unit = self._known.get(form)
            if unit is None:
                continue
            if form in self._begun:
                under_way = max(under_way, n)
            if 0 <= unit < self.n_symbols:
                return unit, unit, n, int(row[end - n] in self.spaces)
            if unit != _BEGUN and literal == self.n_units:
                literal, length = unit, n
        if literal == self.n_units:
            length = max(1, under_way)
        return self.n_symbols, literal, length, literal - self.n_symbols + 2

    @property
    def n_looks(self) -> int:
        """How many looks there are, that of no unit included."""
        return self.n_units - self.n_symbols + 3


@dataclass
class Teaching:
    """What rehearsal adds to a forward pass: whose vectors are in the bank, and where the packet's edges point.

    Positions t are those that *predict* the token t+1. ``-100`` marks positions that teach nothing.
    """

    place_BT: Tensor  # leaf of the packet's graph that writes the next unit
    bank_index_BK: Tensor  # rows of [pool; true bank] that stand for the concepts in each sequence
    class_BT: Tensor  # selector class
    phase_BT: Tensor  # which token of its unit comes next; a unit is held while the class says CONTINUE
    concept_BT: Tensor  # concept index, where a rule applies
    source_BTA: Tensor  # token positions of the arguments (of the copied unit, for copies)
    copied_BT: Tensor  # symbol id that is copied
    forced_B: Tensor  # sequences whose reader is told class, concept and sources (bool)
    selection_gradient: bool = True  # whether what is written sends gradients to the choice of what to write
    stream_gradient: bool = True  # whether what lies above the reader sends gradients down the stream


@dataclass
class ReaderOutputs:
    """What a reader leaves behind for the losses and for the auditor."""

    class_BTC: Tensor
    gather_BHTN: Tensor
    place_BTM: Tensor | None = None  # log probabilities
    usage_BTK: Tensor | None = (
        None  # what it reaches for, flagged concepts too, which are filtered afterwards
    )
    retrieval_BTK: Tensor | None = None
    going_on_BT: Tensor | None = None  # logit


@dataclass
class Run:
    """One forward pass. Created by the model's pre-hook, read by every reader."""

    token_BT: Tensor
    mask_BN: Tensor  # real tokens
    position_BN: Tensor  # counts real tokens only, so left padding is harmless
    symbol_BN: Tensor
    unit_BTG: Tensor  # the last G units before each token of this pass, the one that ends there first
    looks_BTG: Tensor  # how they look, symbols masked
    begun_BT: Tensor  # how many tokens of a unit seem to be written already, where none ends
    ordinal_BN: Tensor  # how many symbols ended up to here
    cache: DynamicCache | None
    first_layer: int  # of the cache's pseudo layers that this reader keeps
    teaching: Teaching | None = None
    taps: dict[int, Tensor] = field(default_factory=dict)  # states of the blocks that are read, by layer
    outputs: list[ReaderOutputs] = field(default_factory=list)
    turns: dict[Any, tuple[Tensor, Tensor]] = field(default_factory=dict)  # rotations by counts

    @cached_property
    def n_past(self) -> int:
        """Tokens seen in earlier passes."""
        return int(self.mask_BN.shape[1] - self.token_BT.shape[1])

    @cached_property
    def seen_BTN(self) -> Tensor:
        """Which tokens each position may look at: real ones, up to and with itself."""
        n, past = self.mask_BN.shape[1], self.n_past
        at_N = torch.arange(n, device=self.mask_BN.device)
        return (at_N[None, :] <= at_N[past:, None])[None] & self.mask_BN[:, None, :]

    def carry(self, h_BTE: Tensor) -> Tensor:
        """The stream past the reader; in rehearsal it may be cut off from what lies above."""
        return h_BTE.detach() if self.teaching is not None and not self.teaching.stream_gradient else h_BTE

    def kept(self, slot: Slot) -> Any:
        """A pseudo layer of the cache."""
        assert self.cache is not None
        return _layer(self.cache, self.first_layer + slot)

    def extend_keys(self, slot: Slot, key_BHTW: Tensor, value_BLTV: Tensor) -> tuple[Tensor, Tensor]:
        """Appends a reader's keys and values to the cache and returns all of them."""
        if self.cache is None:
            return key_BHTW, value_BLTV
        keys, values = self.kept(slot).update(key_BHTW, value_BLTV)
        return keys, values

    def hold(self, content_BTY: Tensor, going_on_BT: Tensor) -> tuple[Tensor, Tensor]:
        """What is being written at each position, and the how-manieth token of it.

        A unit once begun is kept to its end.

        Args:
            content_BTY: what a unit begun at t would be.
            going_on_BT: positions that go on with what an earlier one began.
        """
        b, t, _ = content_BTY.shape
        device = content_BTY.device
        before_B1Y = content_BTY.new_zeros(b, 1, content_BTY.shape[2])
        phase_B1 = torch.zeros(b, 1, dtype=torch.long, device=device)
        layer = None
        if self.cache is not None:
            layer = self.kept(Slot.HELD)
            if layer.get_seq_length():
                before_B1Y, phase_B1 = layer.keys[:, 0, -1:], layer.values[:, 0, -1:, 0].long()
        index_BT = torch.arange(1, t + 1, device=device).expand(b, t)
        start_BT = torch.where(going_on_BT, 0, index_BT).cummax(1).values  # 0: begun in an earlier pass
        every_BTY = torch.cat([before_B1Y, content_BTY], 1)
        held_BTY = every_BTY.gather(1, start_BT[..., None].expand(-1, -1, every_BTY.shape[2]))
        phase_BT = index_BT - start_BT + torch.where(start_BT == 0, phase_B1, 0)
        if layer is not None:
            layer.update(held_BTY[:, None], phase_BT[:, None, :, None].to(held_BTY.dtype))
        return held_BTY, phase_BT


class RunState:
    """The mutable holder that the hook writes and the readers read; one per adapted model, for all its adapters."""

    def __init__(self, n_blocks: int) -> None:
        self.n_blocks = n_blocks
        self.runs: dict[str, Run] = {}  # of the pass that is running, by adapter
        self.teaching: Teaching | None = None
        self.last: Run | None = None  # of the pass before, of its first reader
        self.taps: dict[int, Any] = {}  # hook handles, by layer
        self.matchers: dict[str, UnitMatcher] = {}  # by adapter: each has an alphabet of its own
        self.blocks: list[Any] = []  # blocks behind which readers write; found once, for every pass asks them

    def begin(
        self, adapter: str, nth: int, token_BT: Tensor, mask: Any, cache: Any = None, past: int = 0
    ) -> Run:
        """Prepares a pass for the reader of one adapter.

        Args:
            nth: among those that are active, which decides what part of the cache is its.
            mask: the two-dimensional attention mask over past and present tokens, or None.
            past: ``tokens_in`` the cache before any reader of this pass put the present ones there.
        """
        matcher, first_layer = self.matchers[adapter], self.n_blocks + nth * len(Slot)
        if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
            raise CompatibilityError(
                "the concept reader expects a two-dimensional attention mask of shape (batch, tokens so far), got "
                + (f"shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__)
            )
        device = token_BT.device
        kept_token = torch.empty(token_BT.shape[0], 0, dtype=torch.long, device=device)
        kept = torch.empty(token_BT.shape[0], 0, 4, dtype=torch.long, device=device)
        if cache is not None and past:
            layer = _layer(cache, first_layer + Slot.FACTS)
            if layer.get_seq_length() != past:
                raise CompatibilityError(
                    f"the cache holds {past} tokens but the concept reader saw {layer.get_seq_length()} of them: "
                    "a cache must be filled with the same adapters switched on all the time"
                )
            kept_token, kept = layer.keys[:, 0, :, 0].long(), layer.values[:, 0].long()
        n = past + token_BT.shape[1]
        if mask is None:
            mask_BN = kept_token.ge(0) if past else token_BT.new_ones(token_BT.shape[0], 0, dtype=torch.bool)
            mask_BN = torch.cat([mask_BN, torch.ones_like(token_BT, dtype=torch.bool)], 1)
        elif mask.shape[1] != n:
            raise CompatibilityError(
                f"expected an attention mask over {n} tokens, got one over {mask.shape[1]}"
            )
        else:
            mask_BN = mask.bool()
        clean_BT = torch.where(mask_BN[:, past:], token_BT, -1)  # padding never belongs to a symbol
        tail = kept_token[:, max(0, past - matcher.longest + 1) :]
        fact_BT4 = matcher(torch.cat([tail, clean_BT], 1))[:, tail.shape[1] :]
        if cache is not None:
            _layer(cache, first_layer + Slot.FACTS).update(
                clean_BT[:, None, :, None].float(), fact_BT4[:, None].float()
            )
        symbol_BN, unit_BN, length_BN, looks_BN = torch.cat([kept, fact_BT4], 1).unbind(-1)
        begun_BT = torch.where(fact_BT4[..., 1] == matcher.n_units, fact_BT4[..., 2], 0)
        at_BTG = trail(length_BN, past)
        run = Run(
            token_BT=token_BT,
            mask_BN=mask_BN,
            position_BN=mask_BN.long().cumsum(1) - 1,
            symbol_BN=symbol_BN,
            unit_BTG=along(unit_BN, at_BTG, matcher.n_units),
            looks_BTG=along(looks_BN, at_BTG, matcher.n_looks - 1),
            begun_BT=begun_BT,
            ordinal_BN=((symbol_BN < matcher.n_symbols) & mask_BN).long().cumsum(1),
            cache=cache,
            first_layer=first_layer,
            teaching=self.teaching,
        )
        self.runs[adapter] = run
        return run


TRAIL = 4  # units that a reader sees at once: the one that ends here and those before it


def trail(length_BN: Tensor, past: int) -> Tensor:
    """Where the last few units end at each token from ``past`` on, (B, T, G), stepping back over whole units.

    Negative before the first one.
    """
    at_BT = torch.arange(past, length_BN.shape[1], device=length_BN.device).expand(length_BN.shape[0], -1)
    steps = [at_BT]
    for _ in range(TRAIL - 1):
        # a step back from before the first token stays there
        at_BT = at_BT - length_BN.gather(1, at_BT.clamp(min=0))
        steps.append(at_BT)
    return torch.stack(steps, -1)


def along(what_BN: Tensor, at_BTG: Tensor, nothing: int) -> Tensor:
    """What is found along a trail, (B, T, G)."""
    found_BX = what_BN.gather(1, at_BTG.clamp(min=0).flatten(1))
    return torch.where(at_BTG >= 0, found_BX.view(at_BTG.shape), nothing)


def tokens_in(cache: Any) -> int:
    """Tokens seen in earlier passes. Where the model keeps no keys, the readers' own layers count them."""
    if cache is None:
        return 0
    if not isinstance(cache, DynamicCache):
        raise CompatibilityError(
            f"the concept reader keeps its keys in a DynamicCache, got {type(cache).__name__}; "
            "generate without cache_implementation, or with use_cache=False"
        )
    if any(isinstance(layer, DynamicLayer) for layer in cache.layers):
        return int(cache.get_seq_length())
    if cache.layers and cache.has_previous_state():
        raise CompatibilityError(
            "the cache holds states of earlier passes that the concept reader did not see: a cache must be filled with "
            "the same adapters switched on all the time"
        )
    return 0


def _layer(cache: DynamicCache, index: int) -> Any:
    """A pseudo layer behind the model's own: beams, crops and batch selection then move it along by themselves."""
    while len(cache.layers) <= index:
        cache.layers.append(DynamicLayer())
    return cache.layers[index]
