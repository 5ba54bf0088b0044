"""The two kinds of attention heads inside a reader.

*Argument heads* attend only to earlier tokens that end a symbol, supervised by the packet's edges. *Context heads*
attend to all earlier tokens without supervision; the selector and the argument heads use their output. In both, half of
the width compares content, a quarter token positions and a quarter symbol positions (RoPE): "three symbols back" is one
direction, whatever the tokens between. In saved adapters the heads are called ``gather`` and ``look``.

Letters: B batch, T tokens of this pass, N tokens so far, H heads, S symbols, Y what all heads or maps return; local:
W head width, P pairs of rotated dimensions.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from m2kt._shapes import Float, Int, Shaped
from m2kt.student.cal._cache import Slot
from m2kt.student.cal._context import Run
from m2kt.student.cal._matcher import TokenFeature

POSITIONS = slice(TokenFeature.POSITION, TokenFeature.ORDINAL + 1)
"""Token position and symbol position in the token features."""
_BASE = 200.0  # of RoPE: the slowest rotation has a period of 2 pi * base tokens, far above a trace's length


def _frequencies(width: int, n_positions: int) -> Tensor:
    """Frequency of each pair of dimensions for each kind of position; 0 for half of the pairs."""
    n_pairs = width // 2 // n_positions // 2
    out_XP = torch.zeros(n_positions, width // 2)
    for x in range(n_positions):
        first = width // 2 - (n_positions - x) * n_pairs
        out_XP[x, first : first + n_pairs] = _BASE ** (-torch.arange(n_pairs, dtype=torch.float32) / n_pairs)
    return out_XP


@lru_cache
def _all_frequencies(width: int, value_width: int, device: torch.device) -> Tensor:
    """Frequencies of queries and keys (both positions), of values (symbol positions), and of the inverse rotation."""
    value_XP = nn.functional.pad(_frequencies(value_width, 1), (0, 0, 1, 0))
    return torch.cat([_frequencies(width, 2), value_XP, -value_XP], 1).to(device)


class RotaryAngles(NamedTuple):
    """Rotations by position, as complex numbers of length 1, one for each pair of dimensions."""

    key_B1TP: Tensor  # of queries and keys
    value_B1TP: Tensor
    inverse_value_B1TP: Tensor  # of attention outputs: values are then relative to the query's position


def rotary_angles(position_BTX: Int[Tensor, "B T 2"], width: int, value_width: int) -> RotaryAngles:
    """The rotations at ``POSITIONS``, computed once for all heads of a pass."""
    angle_BTP = position_BTX.float() @ _all_frequencies(width, value_width, position_BTX.device)
    rotation_B1TP = torch.polar(angle_BTP.new_ones(()), angle_BTP)[:, None]
    return RotaryAngles(*rotation_B1TP.split([width // 2, value_width // 2, value_width // 2], -1))


@lru_cache
def paired(width: int, n_positions: int, device: torch.device) -> Int[Tensor, " W"]:
    """The permutation of a head's dimensions that makes the two of a rotated pair adjacent.

    In saved weights the first dimensions of a share's pairs are stored before all the second ones.
    """
    n_pairs = width // 2 // n_positions // 2
    return torch.arange(width).view(-1, 2, n_pairs).transpose(1, 2).flatten().to(device)


def rotate(x_BHTW: Float[Tensor, "B H T W"], angle_B1TP: Shaped[Tensor, "_ 1 T _"]) -> Float[Tensor, "B H T W"]:
    """Rotate each pair of adjacent dimensions."""
    if not torch.is_grad_enabled():  # fewer operations, without gradient
        return (x_BHTW.view(torch.complex64) * angle_B1TP).view(torch.float32)
    z_BHTP = torch.view_as_complex(x_BHTW.view(*x_BHTW.shape[:-1], -1, 2))
    return torch.view_as_real(z_BHTP * angle_B1TP).view(x_BHTW.shape)


def _split_heads(x_BTY: Tensor, width: int) -> Tensor:
    """To (B, H, T, W)."""
    b, t, _ = x_BTY.shape
    return x_BTY.view(b, t, -1, width).transpose(1, 2)


def _repeat_order(order_W: Tensor, n_heads: int) -> Tensor:
    """The same permutation within each head, (H W,)."""
    first_H1 = len(order_W) * torch.arange(n_heads, device=order_W.device)[:, None]
    return (first_H1 + order_W).flatten()


class Heads(nn.Module):
    """Queries and keys of a set of heads, rotated by position.

    The reader applies the maps of ``stacked`` to its input and passes the result to ``forward``.
    """

    def __init__(self, input_width: int, n_heads: int, width: int, rope: bool) -> None:
        super().__init__()
        self.n_heads, self.width, self.rope = n_heads, width, rope
        self.query = nn.Linear(input_width, n_heads * width)
        self.key = nn.Linear(input_width, n_heads * width)
        with torch.no_grad():  # inputs are standardised: attention starts close to uniform
            for layer in (self.query, self.key):
                layer.weight.normal_(std=(0.5 / input_width) ** 0.5)
                layer.bias.normal_(std=0.1)
        # Queries and keys are normalised and scaled by a learnt factor, which bounds the logits.
        self.log_sharpness_H = nn.Parameter(torch.full((n_heads,), 2.0))

    @property
    def projections(self) -> list[nn.Linear]:
        """The maps that ``stacked`` joins: in generation the number of operations determines the time."""
        return [self.query, self.key]

    def stacked(self) -> tuple[Tensor, Tensor]:
        """Weight (Y, X) and bias (Y) of all maps, the rows of each head in the order ``paired``."""
        order_Y = self.order()
        maps = self.projections
        return torch.cat([m.weight for m in maps])[order_Y], torch.cat([m.bias for m in maps])[order_Y]

    def order(self) -> Tensor:
        """Index of each stacked row in the concatenated maps, (Y,)."""
        device = self.query.weight.device
        order_W = paired(self.width, 2, device) if self.rope else torch.arange(self.width, device=device)
        return _repeat_order(order_W, 2 * self.n_heads)

    def sharpness(self) -> Tensor:
        """Factors of queries (learnt) and keys (1), (2 H, 1, 1)."""
        sharpness_H = self.log_sharpness_H.clamp(max=4.5).exp()
        return torch.cat([sharpness_H, torch.ones_like(sharpness_H)])[:, None, None]

    def queries_and_keys(
        self, mapped_BTY: Float[Tensor, "B T _"], sharpness_H11: Float[Tensor, "_ 1 1"], angles: RotaryAngles
    ) -> tuple[Float[Tensor, "B H T W"], Float[Tensor, "B H T W"]]:
        """Queries (with sharpness) and keys, normalised and rotated."""
        both_BTY = mapped_BTY[..., : 2 * self.n_heads * self.width]
        both_BHTW = _split_heads(both_BTY, self.width)
        length_BHT1 = torch.linalg.vector_norm(both_BHTW, dim=-1, keepdim=True).clamp(min=1e-12)
        both_BHTW = both_BHTW * (sharpness_H11 / length_BHT1)
        if self.rope:
            both_BHTW = rotate(both_BHTW, angles.key_B1TP)
        q_BHTW, k_BHTW = both_BHTW.split(self.n_heads, 1)
        return q_BHTW, k_BHTW


class ArgumentHeads(Heads):
    """Attention to symbols, supervised by the packet's edges; one head for copies and one for each argument."""

    def forward(
        self,
        mapped_BTY: Float[Tensor, "B T _"],
        sharpness_H11: Float[Tensor, "_ 1 1"],
        angles: RotaryAngles,
        run: Run,
        one_hot_SS: Float[Tensor, "_ S"],
    ) -> tuple[Float[Tensor, "B H T N"], Float[Tensor, "B H T S"]]:
        """Log attention, very negative at tokens that end no symbol, and p(symbol)."""
        q_BHTW, k_BHTW = self.queries_and_keys(mapped_BTY, sharpness_H11, angles)
        one_hot_B1TS = nn.functional.embedding(run.feature_BTX[..., TokenFeature.SYMBOL], one_hot_SS)[:, None]
        k_BHNW, one_hot_B1NS = run.extend_keys(Slot.ARGUMENTS, k_BHTW, one_hot_B1TS)
        masked_B1TN = (run.symbol_BN == one_hot_SS.shape[1])[:, None, None]  # padding ends no symbol
        if run.n_tokens > 1:
            masked_B1TN = masked_B1TN | run.masked_BTN[:, None]
        log_BHTN = (q_BHTW @ k_BHNW.transpose(-1, -2)).masked_fill(masked_B1TN, -1e4).log_softmax(-1)
        if run.n_tokens > 1:  # again: without any earlier symbol the softmax is uniform, over later symbols too
            log_BHTN = log_BHTN.masked_fill(masked_B1TN, -1e4)
        mass_BXS = log_BHTN.exp().flatten(1, 2) @ one_hot_B1NS[:, 0]
        return log_BHTN, mass_BXS.view(*q_BHTW.shape[:3], -1)


class ContextHeads(Heads):
    """Attention to all earlier tokens. Half of a value is rotated: the output then depends on the symbol distance."""

    def __init__(self, input_width: int, n_heads: int, width: int, rope: bool, value_width: int) -> None:
        super().__init__(input_width, n_heads, width, rope)
        self.value_width = value_width
        self.value = nn.Linear(input_width, n_heads * value_width)

    @property
    def projections(self) -> list[nn.Linear]:
        return [self.query, self.key, self.value]

    def order(self) -> Tensor:
        return torch.cat([super().order(), 2 * self.n_heads * self.width + self.output_order()])

    def output_order(self) -> Tensor:
        """Index in the value map's order of each output dimension, (Y,)."""
        return _repeat_order(paired(self.value_width, 1, self.value.weight.device), self.n_heads)

    def forward(
        self,
        mapped_BTY: Float[Tensor, "B T _"],
        sharpness_H11: Float[Tensor, "_ 1 1"],
        angles: RotaryAngles,
        run: Run,
    ) -> Float[Tensor, "B T _"]:
        """The heads' outputs, in the order ``output_order``."""
        q_BHTW, k_BHTW = self.queries_and_keys(mapped_BTY, sharpness_H11, angles)
        v_BHTX = _split_heads(mapped_BTY[..., -self.n_heads * self.value_width :], self.value_width)
        k_BHNW, v_BHNX = run.extend_keys(Slot.CONTEXT, k_BHTW, rotate(v_BHTX, angles.value_B1TP))
        logit_BHTN = (q_BHTW @ k_BHNW.transpose(-1, -2)).masked_fill(run.masked_BTN[:, None], -1e4)
        out_BHTX = rotate(logit_BHTN.softmax(-1) @ v_BHNX, angles.inverse_value_B1TP)
        return out_BHTX.transpose(1, 2).flatten(2)
