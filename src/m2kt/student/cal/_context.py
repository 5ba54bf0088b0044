"""A reader's inputs from the running forward pass besides hidden states: token features, padding, positions, cache.

Letters: B batch, T tokens of this pass, N tokens so far (cached ones included), S symbols, K concepts, C classes,
H heads, A arguments, M leaves of the program, X other widths, Y what a head or map returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor
from transformers import DynamicCache

from m2kt._shapes import Bool, Float, Int, Shaped
from m2kt.errors import CompatibilityError
from m2kt.models import UNLIMITED
from m2kt.student.cal._cache import GrowableCacheLayer, Slot, pseudo_layer
from m2kt.student.cal._matcher import Row, TokenFeature, TokenMatcher, as_tensor

Features = Sequence[Sequence[Row]]
"""Features of each token, by row."""


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
    instead: tuple[Mapping[int, int], ...] = ()
    """Contents that are injected for others (-1: nothing is), by row; of one for all rows."""
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


def begin_run(
    matcher: TokenMatcher,
    first_layer: int,
    token_BT: Int[Tensor, "B T"],
    mask: Tensor | None,
    supervision: Supervision | None,
    cache: DynamicCache | None = None,
    n_past: int = 0,
    context: int = UNLIMITED,
) -> Run:
    """Create the ``Run`` of one reader.

    Args:
        first_layer: of the reader's pseudo layers in the cache.
        mask: two-dimensional attention mask over past and present tokens, or None.
        n_past: ``count_cached_tokens`` before any reader of this pass appended to the cache.
        context: tokens that the model can read.

    Raises: CompatibilityError for a mask of another shape, a cache that was filled without this reader, or an answer
    past the model's context.
    """
    _check_mask(mask)
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
    if any_in_domain and n > context:
        _check_context(matcher.has_content, features, mask_BN, context)
    feature_BTX = all_BNX = as_tensor(features).to(token_BT.device)
    if layer is not None:
        all_BNX = layer.update(feature_BTX[:, None], feature_BTX[:, None, :, :0])[0][:, 0]
    return Run(
        mask_BN=mask_BN,
        all_BNX=all_BNX,
        feature_BTX=feature_BTX,
        any_in_domain=any_in_domain,
        cache=cache,
        first_layer=first_layer,
        supervision=supervision,
    )


def _check_mask(mask: object) -> None:
    if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
        raise CompatibilityError(
            "expected a two-dimensional attention mask of shape (batch, tokens so far) for the concept reader, got "
            + (f"shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__)
        )


def _check_context(
    has_content: Callable[[Features], bool], features: Features, mask_BN: Bool[Tensor, "B N"], context: int
) -> None:
    """An answer past the model's context would be silently wrong. Raises CompatibilityError."""
    for row, real_N in zip(features, mask_BN.tolist(), strict=True):
        before = sum(real_N[: -len(row)])
        position_T = accumulate(real_N[-len(row) :], initial=before)
        if has_content([[new for new, at in zip(row, position_T, strict=False) if at >= context]]):
            raise CompatibilityError(
                f"expected a question and its answer within the {context} tokens of the model's context, got text that "
                f"goes on to token {sum(real_N)}; shorten what stands before the question"
            )
