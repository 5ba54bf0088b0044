"""A reader's inputs from the running forward pass besides hidden states: token features, padding, positions, cache.

Letters: B batch, T tokens of this pass, N tokens so far (cached ones included), S symbols, K concepts, C classes,
H heads, A arguments, M leaves of the program, X other widths, Y what a head or map returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from transformers import DynamicCache

from m2kt._shapes import Bool, Float, Int, Shaped
from m2kt.errors import CompatibilityError
from m2kt.student.cal._cache import GrowableCacheLayer, Slot, pseudo_layer

_PREFIX = -1  # a token sequence that is only the beginning of a unit
N_LAST_UNITS = 4  # units that a reader gets at each position: the one that ends there and those before
Row = Sequence[int]
"""Features of one token, by ``TokenFeature``."""


class TokenFeature(IntEnum):
    """Features computed from token ids alone; columns of ``UnitMatcher``'s result."""

    TOKEN = 0  # id; negative: padding
    SYMBOL = 1  # symbol that ends here; n_symbols: none
    POSITION = 2  # without padding
    ORDINAL = 3  # number of symbols that ended so far
    IN_DOMAIN = 4  # whether the types of the last units occur in the packet's traces
    PARTIAL = 5  # tokens of an incomplete unit, if none ends here
    UNITS = 6  # the last units, the one that ends here first; n_units: none
    # unit types: 0 for any symbol, 1 for a symbol with a leading space, then one for each literal
    TYPES = UNITS + N_LAST_UNITS


N_FEATURES = TokenFeature.TYPES + N_LAST_UNITS
# Plain numbers: a generation step uses them dozens of times.
_TOKEN, _POSITION, _ORDINAL, _IN_DOMAIN = map(
    int, (TokenFeature.TOKEN, TokenFeature.POSITION, TokenFeature.ORDINAL, TokenFeature.IN_DOMAIN)
)
_UNITS_BUT_LAST = slice(int(TokenFeature.UNITS), TokenFeature.TYPES - 1)
_TYPES_BUT_LAST = slice(int(TokenFeature.TYPES), N_FEATURES - 1)
_CACHED_SUFFIXES = 1 << 14


class TokenMatcher(Protocol):
    """Computes what a reader gets of each token from token ids alone; column 0 is ``TokenFeature.TOKEN``."""

    def features(
        self,
        token_BT: Int[Tensor, "B T"],
        past_BNX: Int[Tensor, "B N X"] | None = None,
        real_BT: Bool[Tensor, "B T"] | None = None,
    ) -> Sequence[Sequence[Row]]:
        """The features of each token, by row; see :meth:`UnitMatcher.features`."""
        ...

    def has_content(self, features: Sequence[Sequence[Row]]) -> bool:
        """Whether the reader may inject something in this pass."""
        ...


class UnitMatcher:
    """Finds the symbol or literal that ends at each token, and the units before it.

    Matching is by suffix: the longest match wins, and a symbol wins over a literal with the same tokens.

    Args:
        symbol_tokens: tokenisations of each symbol.
        literal_tokens: tokenisation of each literal.
        spaces: first tokens of symbols with a leading space.
        context_whitelist: types of the last units that count as in-domain; empty: all do. ``CALConfig.trails``.
    """

    def __init__(
        self,
        symbol_tokens: Sequence[Sequence[Sequence[int]]],
        literal_tokens: Sequence[Sequence[int]] = (),
        spaces: Sequence[int] = (),
        context_whitelist: Sequence[Sequence[int]] = (),
    ) -> None:
        self.spaces = frozenset(spaces)
        self.context_whitelist = frozenset(map(tuple, context_whitelist))
        self.n_symbols = len(symbol_tokens)
        self.n_units = self.n_symbols + len(literal_tokens)
        symbols = {tuple(form): s for s, forms in enumerate(symbol_tokens) for form in forms}
        literals = {tuple(form): self.n_symbols + u for u, form in enumerate(literal_tokens) if form}
        units = literals | symbols
        self._prefixes = {form[:n] for form in units for n in range(1, len(form))}
        self.longest = max(map(len, units), default=1)
        self._unit_of = {form: units.get(form, _PREFIX) for form in self._prefixes | units.keys()}
        no_units = (self.n_units,) * N_LAST_UNITS
        self._start: Row = (-1, self.n_symbols, -1, 0, 0, 0, *no_units, *map(self._literal_type, no_units))
        self._match = lru_cache(_CACHED_SUFFIXES)(self._match_suffix)

    def __call__(
        self, token_BT: Int[Tensor, "B T"], past_BNX: Int[Tensor, "B N X"] | None = None
    ) -> Int[Tensor, "B T X"]:
        """The features of :meth:`features` as a tensor on the CPU."""
        return as_tensor(self.features(token_BT, past_BNX))

    def features(
        self,
        token_BT: Int[Tensor, "B T"],
        past_BNX: Int[Tensor, "B N X"] | None = None,
        real_BT: Bool[Tensor, "B T"] | None = None,
    ) -> list[list[Row]]:
        """The features of each token, by row.

        Args:
            token_BT: ids; negative ones are padding, which matches no unit.
            past_BNX: features of earlier tokens, at least of the last ``longest`` ones.
            real_BT: which tokens are no padding, if ids do not tell.
        """
        # Python, because a generation step has one token a row: a dictionary is faster than dozens of small tensor ops.
        rows = token_BT.tolist()
        if real_BT is not None and not real_BT.all():
            rows = [
                [token if real else -1 for token, real in zip(*row, strict=True)]
                for row in zip(rows, real_BT.tolist(), strict=True)
            ]
        tails = [[]] * len(rows) if past_BNX is None else past_BNX[:, -self.longest :].tolist()
        return [self._row_features(row, tail) for row, tail in zip(rows, tails, strict=True)]

    def has_content(self, features: Sequence[Sequence[Row]]) -> bool:
        """Whether some token is in-domain."""
        return any(feature[_IN_DOMAIN] for row in features for feature in row)

    def _row_features(self, row: list[int], tail: list[Row]) -> list[Row]:
        tokens, features = [feature[_TOKEN] for feature in tail], list(tail)
        for token in row:
            tokens.append(token)
            last = features[-1] if features else self._start
            symbol, unit, length, unit_type = self._match(tuple(tokens[-self.longest :]))
            # earlier units are those before the first token of this unit, complete or not
            earlier = features[-length] if length <= len(features) else self._start
            types = (unit_type, *earlier[_TYPES_BUT_LAST])
            features.append(
                (
                    token,
                    symbol,
                    last[_POSITION] + (token >= 0),
                    last[_ORDINAL] + (symbol < self.n_symbols),
                    not self.context_whitelist or types in self.context_whitelist,
                    length if unit == self.n_units else 0,
                    unit,
                    *earlier[_UNITS_BUT_LAST],
                    *types,
                )
            )
        return features[len(tail) :]

    def _match_suffix(self, tokens: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Symbol and unit that end at the last token, the number of the unit's tokens, and its type."""
        literal, length, partial, end = self.n_units, 1, 0, len(tokens)
        for n in range(end, 0, -1):
            form = tokens[end - n :]
            unit = self._unit_of.get(form)
            if unit is None:
                continue
            if form in self._prefixes:
                partial = max(partial, n)
            if 0 <= unit < self.n_symbols:
                return unit, unit, n, int(form[0] in self.spaces)
            if unit != _PREFIX and literal == self.n_units:
                literal, length = unit, n
        if literal == self.n_units:
            length = max(1, partial)
        return self.n_symbols, literal, length, self._literal_type(literal)

    def _literal_type(self, unit: int) -> int:
        return unit - self.n_symbols + 2


def as_tensor(features: Sequence[Sequence[Row]]) -> Int[Tensor, "B T X"]:
    """Features by row and token."""
    rows, tokens = len(features), len(features[0]) if features else 0
    width = len(features[0][0]) if tokens else N_FEATURES
    numbers = chain.from_iterable(chain.from_iterable(features))
    feature_X = np.fromiter(numbers, dtype=np.int64, count=rows * tokens * width)
    return torch.from_numpy(feature_X.reshape(rows, tokens, width))


@dataclass
class Supervision:
    """The reader's supervision in rehearsal: each sequence's bank and the packet's edges.

    Position t holds the labels of token t + 1; ``-100`` marks positions without a label.
    """

    leaf_BT: Int[Tensor, "B T"]  # leaf of the packet's program that writes the next unit
    bank_index_BK: Int[Tensor, "B K"]  # rows of [prototype samples; bank] that replace the concepts' vectors
    class_BT: Int[Tensor, "B T"]  # selector class
    token_index_BT: Int[Tensor, "B T"]  # head of phi for the next token: its index in its unit, see ``CALConfig.leads``
    content_BT: Int[Tensor, "B T"]  # row of [concepts; symbols; literals] that the next token belongs to
    concept_BT: Int[Tensor, "B T"]  # concept index, if a rule applies
    source_BTA: Int[Tensor, "B T A"]  # token positions of the arguments (of the copied unit, for copies)
    copied_BT: Int[Tensor, "B T"]  # symbol that is copied
    teacher_forced_B: Bool[Tensor, " B"]  # sequences whose class, concept and copied symbol are teacher-forced
    selection_gradient: bool = True  # whether the injection sends gradients to the selection
    stream_gradient: bool = True  # whether blocks after the reader send gradients to those before it


@dataclass
class ReaderOutputs:
    """A reader's outputs for the losses and the auditor; log probabilities unless noted."""

    class_BTC: Float[Tensor, "B T C"]
    attention_BHTN: Float[Tensor, "B H T N"]  # of the argument heads
    leaf_BTM: Float[Tensor, "B T M"] | None = None
    usage_BTK: Float[Tensor, "B T K"] | None = None  # concept weights before flagged concepts are removed
    retrieval_BTK: Float[Tensor, "B T K+1"] | None = None  # the flat reader's, with none as the last column
    continue_BT: Float[Tensor, "B T"] | None = None  # the flat reader's logit of CONTINUE
    concept_BT: Int[Tensor, "B T"] | None = None  # the executed reader's concept, -1: none


def concatenate_states(state_BTE: Sequence[Float[Tensor, "B T E"]]) -> Float[Tensor, "B T X"]:
    """States of several blocks, concatenated along the width."""
    return state_BTE[0] if len(state_BTE) == 1 else torch.cat(list(state_BTE), -1)


@dataclass
class Run:
    """One forward pass as a reader gets it, created by the model's pre-hook.

    *Deferred* tokens are those of earlier passes in which the reader was skipped because nothing was in-domain.
    """

    mask_BN: Bool[Tensor, "B N"]  # which tokens are no padding
    all_BNX: Int[Tensor, "B N X"]  # features of all tokens so far
    feature_BTX: Int[Tensor, "B T X"]  # by ``TokenFeature``, of this pass and of deferred tokens
    any_in_domain: bool  # whether some token of this pass is in-domain
    cache: DynamicCache | None
    first_layer: int  # of the reader's pseudo layers in the cache
    supervision: Supervision | None = None
    states: dict[int, Tensor] = field(default_factory=dict)  # outputs of the blocks that the reader reads, by index
    outputs: list[ReaderOutputs] = field(default_factory=list)

    @property
    def symbol_BN(self) -> Int[Tensor, "B N"]:
        """The symbol that ends at each token."""
        return self.all_BNX[..., TokenFeature.SYMBOL]

    @property
    def n_tokens(self) -> int:
        """Tokens of this pass and deferred ones."""
        return int(self.feature_BTX.shape[1])

    @property
    def n_past(self) -> int:
        """Tokens that the reader has processed before."""
        return int(self.mask_BN.shape[1]) - self.n_tokens

    @cached_property
    def masked_BTN(self) -> Bool[Tensor, "B _ N"]:
        """Tokens that a position may not attend to: padding and later ones."""
        padding_B1N = ~self.mask_BN[:, None]
        if self.n_tokens == 1:
            return padding_B1N
        at_N = torch.arange(self.mask_BN.shape[1], device=self.mask_BN.device)
        return padding_B1N | (at_N[None, :] > at_N[self.n_past :, None])

    @cached_property
    def in_domain_BT(self) -> Bool[Tensor, "B _"]:
        """Positions at which the types of the last units occur in the packet's traces."""
        return self.feature_BTX[..., TokenFeature.IN_DOMAIN] > 0

    def pass_on(self, h_BTE: Float[Tensor, "B T E"]) -> Float[Tensor, "B T E"]:
        """The residual stream after the reader, detached if the supervision says so."""
        return h_BTE.detach() if self.supervision is not None and not self.supervision.stream_gradient else h_BTE

    def cache_layer(self, slot: Slot) -> GrowableCacheLayer:
        """A pseudo layer of the cache."""
        assert self.cache is not None
        return pseudo_layer(self.cache, self.first_layer + slot)

    def process_deferred(self, layers: Sequence[int]) -> bool:
        """Process deferred tokens: this pass plus the earlier ones that the reader skipped.

        False if nothing in this pass is in-domain: its tokens are deferred too, so that off-domain generation does not
        pay for the reader.
        """
        state_B1TX = concatenate_states([self.states[layer] for layer in layers])[:, None]
        all_B1NX, _ = self.cache_layer(Slot.STATES).update(state_B1TX, state_B1TX[..., :0])
        if not self.any_in_domain:
            return False
        done = self.cache_layer(Slot.CONTEXT).get_seq_length()
        if done < self.n_past:
            self.feature_BTX = self.cache_layer(Slot.FEATURES).keys[:, 0, done:]
            self.states = dict(zip(layers, all_B1NX[:, 0, done:].chunk(len(layers), -1), strict=True))
        return True

    def extend_keys(
        self, slot: Slot, key_BHTX: Float[Tensor, "B _ T _"], value_BHTX: Shaped[Tensor, "B _ T _"]
    ) -> tuple[Float[Tensor, "B _ N _"], Shaped[Tensor, "B _ N _"]]:
        """Append a reader's keys and values to the cache and return all of them."""
        if self.cache is None:
            return key_BHTX, value_BHTX
        return self.cache_layer(slot).update(key_BHTX, value_BHTX)

    def hold_content(
        self, content_BTY: Float[Tensor, "B T Y"], continue_BT: Bool[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T Y"], Shaped[Tensor, "B T"]]:
        """The content of the unit in progress at each position, and the token index in it.

        Args:
            content_BTY: the content of a unit that begins at t.
            continue_BT: positions that continue the unit of an earlier position.
        """
        b, t, n_content = content_BTY.shape
        layer = None if self.cache is None else self.cache_layer(Slot.CONTENT)
        if layer is not None and layer.get_seq_length():
            last_B1Y, last_index_B1 = layer.keys[:, 0, -1:, :-1], layer.keys[:, 0, -1:, -1]
        else:
            last_B1Y, last_index_B1 = content_BTY.new_zeros(b, 1, n_content), content_BTY.new_zeros(b, 1)
        if t == 1:  # a generation step: equal to the general case, in fewer operations
            held_BTY = torch.where(continue_BT[..., None], last_B1Y, content_BTY)
            token_index_BT = (last_index_B1 + 1) * continue_BT
        else:
            position_BT = torch.arange(1, t + 1, device=content_BTY.device).expand(b, t)
            start_BT = torch.where(continue_BT, 0, position_BT).cummax(1).values  # 0: begun in an earlier pass
            all_BTY = torch.cat([last_B1Y, content_BTY], 1)
            held_BTY = all_BTY.gather(1, start_BT[..., None].expand(-1, -1, n_content))
            token_index_BT = position_BT - start_BT + torch.where(start_BT == 0, last_index_B1, 0.0)
        if layer is not None:
            stored_BTY = torch.cat([held_BTY, token_index_BT[..., None]], -1)
            layer.update(stored_BTY[:, None], stored_BTY[:, None, :, :0])
        return held_BTY, token_index_BT


class RunState:
    """State that hooks write and readers read; one for each adapted model, shared by its adapters."""

    def __init__(self, n_blocks: int) -> None:
        self.n_blocks = n_blocks
        self.runs: dict[str, Run] = {}  # of the current pass, by adapter
        self.supervision: Supervision | None = None
        self.last: Run | None = None  # of the previous pass's first reader
        self.handles: dict[int, RemovableHandle] = {}  # of the hooks that store states, by block index
        self.matchers: dict[str, TokenMatcher] = {}  # by adapter
        self.blocks: list[Any] = []  # ``ReadingBlock`` modules, collected once because every pass needs them

    def begin(
        self,
        adapter: str,
        nth: int,
        token_BT: Int[Tensor, "B T"],
        mask: object,
        cache: DynamicCache | None = None,
        n_past: int = 0,
    ) -> Run:
        """Create the ``Run`` of one adapter's reader.

        Args:
            nth: index among the active readers; it determines the pseudo layers in the cache.
            mask: two-dimensional attention mask over past and present tokens, or None.
            n_past: ``count_cached_tokens`` before any reader of this pass appended to the cache.
        """
        matcher, first_layer = self.matchers[adapter], self.n_blocks + nth * len(Slot)
        if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
            raise CompatibilityError(
                "expected a two-dimensional attention mask of shape (batch, tokens so far) for the concept reader, got "
                + (f"shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__)
            )
        layer, past_BNX = None, None
        if cache is not None:
            layer = pseudo_layer(cache, first_layer + Slot.FEATURES)
            if layer.get_seq_length() != n_past:
                raise CompatibilityError(
                    f"the cache has {n_past} tokens but the concept reader processed {layer.get_seq_length()} of them: "
                    "a cache must be filled with the same adapters switched on all the time"
                )
            past_BNX = layer.keys[:, 0] if n_past else None
        n = n_past + token_BT.shape[1]
        if mask is None:
            mask_BN = torch.ones_like(token_BT, dtype=torch.bool)
            if past_BNX is not None:
                mask_BN = torch.cat([past_BNX[..., TokenFeature.TOKEN] >= 0, mask_BN], 1)
            real_BT = None
        elif mask.shape[1] != n:
            raise CompatibilityError(f"expected an attention mask over {n} tokens, got one over {mask.shape[1]}")
        else:
            mask_BN = mask.bool()
            real_BT = mask_BN[:, n_past:]
        features = matcher.features(token_BT, past_BNX, real_BT)
        any_in_domain = matcher.has_content(features)
        feature_BTX = all_BNX = as_tensor(features).to(token_BT.device)
        if layer is not None:
            all_BNX = layer.update(feature_BTX[:, None], feature_BTX[:, None, :, :0])[0][:, 0]
        run = Run(
            mask_BN=mask_BN,
            all_BNX=all_BNX,
            feature_BTX=feature_BTX,
            any_in_domain=any_in_domain,
            cache=cache,
            first_layer=first_layer,
            supervision=self.supervision,
        )
        self.runs[adapter] = run
        return run
