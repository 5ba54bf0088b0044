"""What a reader must know about the running forward pass besides hidden states: tokens, padding, positions.

Letters: B sequences, T tokens of this pass, N tokens seen so far (cached ones included), S symbols, K concepts,
P pool states, F width of phi's trunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from m2kt.errors import CompatibilityError
from m2kt.student.cal._cache import Slot, pseudo_layer

_BEGUN = -1  # known only as the beginning of a form
TRAIL = 4  # units that a reader sees at once: the one that ends here and those before it


class Fact(IntEnum):
    """What is known of a token from the tokens alone; columns of what ``UnitMatcher`` finds."""

    TOKEN = 0  # negative: padding
    SYMBOL = 1  # that ends here; n_symbols: none
    POSITION = 2  # counts real tokens only, so left padding is harmless
    ORDINAL = 3  # how many symbols ended up to here
    FAMILIAR = 4  # whether the last units look like some that the packet's traces show
    BEGUN = 5  # how many tokens of a unit seem to be written already, where none ends
    UNITS = 6  # the last few, the one that ends here first; n_units: none
    # theirs, symbols masked: 0 for any symbol, 1 for one behind a space, then structure
    LOOKS = UNITS + TRAIL


N_FACTS = Fact.LOOKS + TRAIL
# As plain numbers, for a step of generation asks for them dozens of times.
_TOKEN, _POSITION, _ORDINAL, _FAMILIAR = map(int, (Fact.TOKEN, Fact.POSITION, Fact.ORDINAL, Fact.FAMILIAR))
_UNITS_BUT_LAST = slice(int(Fact.UNITS), Fact.LOOKS - 1)
_LOOKS_BUT_LAST = slice(int(Fact.LOOKS), N_FACTS - 1)
_REMEMBERED = 1 << 14  # suffixes, by what ends there


class UnitMatcher:
    """Reads units off tokens: which symbol or literal ends here, and which ones ended before.

    Matching is by n-gram suffix and the longest match wins. Where a literal is spelled like a symbol, the symbol wins.

    Args:
        symbol_tokens: spellings of each symbol.
        literal_tokens: that of each unit of structure.
        spaces: tokens of symbols that begin with a space.
        trails: what the last units may look like to be familiar; none given: anything.
    """

    def __init__(
        self,
        symbol_tokens: Sequence[Sequence[Sequence[int]]],
        literal_tokens: Sequence[Sequence[int]] = (),
        spaces: Sequence[int] = (),
        trails: Sequence[Sequence[int]] = (),
    ) -> None:
        self.spaces = frozenset(spaces)
        self.trails = frozenset(map(tuple, trails))
        self.n_symbols = len(symbol_tokens)
        self.n_units = self.n_symbols + len(literal_tokens)
        symbols = {tuple(form): s for s, forms in enumerate(symbol_tokens) for form in forms}
        literals = {tuple(form): self.n_symbols + u for u, form in enumerate(literal_tokens) if form}
        spelled = literals | symbols
        begun = {form[:n] for form in spelled for n in range(1, len(form))}
        self.longest = max(map(len, spelled), default=1)
        self._known = {form: spelled.get(form, _BEGUN) for form in begun | spelled.keys()}
        self._begun = begun
        no_units = (self.n_units,) * TRAIL
        self._before = (-1, self.n_symbols, -1, 0, 0, 0, *no_units, *map(self._look, no_units))
        self._ending = lru_cache(_REMEMBERED)(self._at_end)

    def __call__(self, token_BT: Tensor, before_BNX: Tensor | None = None) -> Tensor:
        """What :meth:`read` finds, (B, T, N_FACTS), in the processor's memory wherever the tokens are."""
        return as_tensor(self.read(token_BT, before_BNX))

    def read(
        self, token_BT: Tensor, before_BNX: Tensor | None = None, real_BT: Tensor | None = None
    ) -> list[list[Any]]:
        """The facts of each token, by row.

        Args:
            token_BT: negative ones are padding, which belongs to nothing.
            before_BNX: the facts of earlier tokens, at least of the last ``longest`` ones.
            real_BT: what is no padding, where the tokens do not say.
        """
        # In Python: a step of generation is one token a row, for which a dictionary beats dozens of tiny tensor ops.
        rows = token_BT.tolist()
        if real_BT is not None and not real_BT.all():
            rows = [
                [token if real else -1 for token, real in zip(*row, strict=True)]
                for row in zip(rows, real_BT.tolist(), strict=True)
            ]
        tails = [[]] * len(rows) if before_BNX is None else before_BNX[:, -self.longest :].tolist()
        return [self._facts(row, tail) for row, tail in zip(rows, tails, strict=True)]

    def _facts(self, row: list[int], tail: list[Any]) -> list[Any]:
        tokens, facts = [fact[_TOKEN] for fact in tail], list(tail)
        for token in row:
            tokens.append(token)
            last = facts[-1] if facts else self._before
            symbol, unit, length, look = self._ending(tuple(tokens[-self.longest :]))
            # the units before are those of where this one, or what seems to be under way, began
            earlier = facts[-length] if length <= len(facts) else self._before
            looks = (look, *earlier[_LOOKS_BUT_LAST])
            facts.append(
                (
                    token,
                    symbol,
                    last[_POSITION] + (token >= 0),
                    last[_ORDINAL] + (symbol < self.n_symbols),
                    not self.trails or looks in self.trails,
                    length if unit == self.n_units else 0,
                    unit,
                    *earlier[_UNITS_BUT_LAST],
                    *looks,
                )
            )
        return facts[len(tail) :]

    def _at_end(self, row: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Symbol and unit that end there, how many tokens back what came before ends, and how the unit looks."""
        literal, length, under_way, end = self.n_units, 1, 0, len(row)
        for n in range(end, 0, -1):
            form = row[end - n :]
            unit = self._known.get(form)
            if unit is None:
                continue
            if form in self._begun:
                under_way = max(under_way, n)
            if 0 <= unit < self.n_symbols:
                return unit, unit, n, int(form[0] in self.spaces)
            if unit != _BEGUN and literal == self.n_units:
                literal, length = unit, n
        if literal == self.n_units:
            length = max(1, under_way)
        return self.n_symbols, literal, length, self._look(literal)

    def _look(self, literal: int) -> int:
        return literal - self.n_symbols + 2


def as_tensor(facts: list[list[Any]]) -> Tensor:
    """Facts by row and token, (B, T, N_FACTS)."""
    rows, tokens = len(facts), len(facts[0]) if facts else 0
    plain = chain.from_iterable(chain.from_iterable(facts))
    fact_X = np.fromiter(plain, dtype=np.int64, count=rows * tokens * N_FACTS)
    return torch.from_numpy(fact_X.reshape(rows, tokens, N_FACTS))


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


def side_by_side(state_BTE: Sequence[Tensor]) -> Tensor:
    """States of some blocks, (B, T, X)."""
    return state_BTE[0] if len(state_BTE) == 1 else torch.cat(list(state_BTE), -1)


@dataclass
class Run:
    """One forward pass. Created by the model's pre-hook, read by every reader."""

    mask_BN: Tensor  # real tokens
    symbol_BN: Tensor  # that ends there
    fact_BTX: Tensor  # by ``Fact``, of the tokens of this pass and of those that are owed
    speaks: bool  # whether something in this pass is familiar
    cache: DynamicCache | None
    first_layer: int  # of the cache's pseudo layers that this reader keeps
    teaching: Teaching | None = None
    taps: dict[int, Tensor] = field(default_factory=dict)  # states of the blocks that are read, by layer
    outputs: list[ReaderOutputs] = field(default_factory=list)

    @property
    def n_tokens(self) -> int:
        """Of this pass and of those that are owed."""
        return int(self.fact_BTX.shape[1])

    @property
    def n_past(self) -> int:
        """Tokens that the reader has done with."""
        return int(self.mask_BN.shape[1]) - self.n_tokens

    @cached_property
    def hidden_BTN(self) -> Tensor:
        """Which tokens each position may not look at: padding, and those behind itself."""
        padding_B1N = ~self.mask_BN[:, None]
        if self.n_tokens == 1:
            return padding_B1N
        at_N = torch.arange(self.mask_BN.shape[1], device=self.mask_BN.device)
        return padding_B1N | (at_N[None, :] > at_N[self.n_past :, None])

    @cached_property
    def familiar_BT(self) -> Tensor:
        """Where the last units look like some that the packet's traces show."""
        return self.fact_BTX[..., Fact.FAMILIAR] > 0

    def carry(self, h_BTE: Tensor) -> Tensor:
        """The stream past the reader; in rehearsal it may be cut off from what lies above."""
        return h_BTE.detach() if self.teaching is not None and not self.teaching.stream_gradient else h_BTE

    def kept(self, slot: Slot) -> Any:
        """A pseudo layer of the cache."""
        assert self.cache is not None
        return pseudo_layer(self.cache, self.first_layer + slot)

    def catch_up(self, layers: Sequence[int]) -> bool:
        """Takes in what is owed: this pass, and earlier ones in which the reader had nothing to say.

        False where that may be put off once more, because nothing here is familiar. A student that writes of other
        things then does not wait for its readers.
        """
        state_B1TX = side_by_side([self.taps[layer] for layer in layers])[:, None]
        every_B1NX, _ = self.kept(Slot.STATES).update(state_B1TX, state_B1TX[..., :0])
        if not self.speaks:
            return False
        done = self.kept(Slot.LOOKS).get_seq_length()
        if done < self.n_past:
            self.fact_BTX = self.kept(Slot.FACTS).keys[:, 0, done:]
            self.taps = dict(zip(layers, every_B1NX[:, 0, done:].chunk(len(layers), -1), strict=True))
        return True

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
        b, t, n_content = content_BTY.shape
        layer = None if self.cache is None else self.kept(Slot.HELD)
        if layer is not None and layer.get_seq_length():
            before_B1Y, phase_B1 = layer.keys[:, 0, -1:, :-1], layer.keys[:, 0, -1:, -1]
        else:  # nothing is held that could go on
            before_B1Y, phase_B1 = content_BTY.new_zeros(b, 1, n_content), content_BTY.new_zeros(b, 1)
        if t == 1:  # a step of generation: what the general way comes to, in few operations
            held_BTY = torch.where(going_on_BT[..., None], before_B1Y, content_BTY)
            phase_BT = (phase_B1 + 1) * going_on_BT
        else:
            index_BT = torch.arange(1, t + 1, device=content_BTY.device).expand(b, t)
            start_BT = torch.where(going_on_BT, 0, index_BT).cummax(1).values  # 0: begun in an earlier pass
            every_BTY = torch.cat([before_B1Y, content_BTY], 1)
            held_BTY = every_BTY.gather(1, start_BT[..., None].expand(-1, -1, n_content))
            phase_BT = index_BT - start_BT + torch.where(start_BT == 0, phase_B1, 0.0)
        if layer is not None:
            kept_BTY = torch.cat([held_BTY, phase_BT[..., None]], -1)
            layer.update(kept_BTY[:, None], kept_BTY[:, None, :, :0])
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
        layer, before_BNX = None, None
        if cache is not None:
            layer = pseudo_layer(cache, first_layer + Slot.FACTS)
            if layer.get_seq_length() != past:
                raise CompatibilityError(
                    f"the cache holds {past} tokens but the concept reader saw {layer.get_seq_length()} of them: "
                    "a cache must be filled with the same adapters switched on all the time"
                )
            before_BNX = layer.keys[:, 0] if past else None
        n = past + token_BT.shape[1]
        if mask is None:
            mask_BN = torch.ones_like(token_BT, dtype=torch.bool)
            if before_BNX is not None:
                mask_BN = torch.cat([before_BNX[..., Fact.TOKEN] >= 0, mask_BN], 1)
            real_BT = None
        elif mask.shape[1] != n:
            raise CompatibilityError(
                f"expected an attention mask over {n} tokens, got one over {mask.shape[1]}"
            )
        else:
            mask_BN = mask.bool()
            real_BT = mask_BN[:, past:]
        found = matcher.read(token_BT, before_BNX, real_BT)
        speaks = any(fact[_FAMILIAR] for row in found for fact in row)
        fact_BTX = every_BNX = as_tensor(found).to(token_BT.device)
        if layer is not None:
            every_BNX = layer.update(fact_BTX[:, None], fact_BTX[:, None, :, :0])[0][:, 0]
        run = Run(
            mask_BN=mask_BN,
            symbol_BN=every_BNX[..., Fact.SYMBOL],
            fact_BTX=fact_BTX,
            speaks=speaks,
            cache=cache,
            first_layer=first_layer,
            teaching=self.teaching,
        )
        self.runs[adapter] = run
        return run
