"""The two kinds of attention inside a reader.

*Gather heads* attend from the present position to the symbols written before it, and to nothing else, so they
never have to learn what is a symbol and what is punctuation. *Look heads* see every token and are not told
where to look: they serve the selector and the gather heads' queries and keys. In both, half of the width
compares content; a quarter compares positions counted in tokens and a quarter positions counted in symbols,
by rotation (RoPE): "three symbols back" is one direction, whatever lies between.

Letters: B sequences, T tokens of this pass, N tokens so far, X width that is read, H heads, W head width, V
value width, S symbols, Y what all look heads bring.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from m2kt.student.cal._cache import Slot
from m2kt.student.cal._context import Fact, Run

T = TypeVar("T")
COUNTS = slice(Fact.POSITION, Fact.ORDINAL + 1)
_BASE = 200.0  # slowest rotation takes about 2 pi * base tokens; rehearsed traces are far shorter


def _speeds(width: int, n_counts: int) -> Tensor:
    """How fast each pair of dimensions turns with each count, (counts, W / 2): half of them do not."""
    n_pairs = width // 2 // n_counts // 2
    out_CP = torch.zeros(n_counts, width // 2)
    for c in range(n_counts):
        first = width // 2 - (n_counts - c) * n_pairs
        out_CP[c, first : first + n_pairs] = _BASE ** (-torch.arange(n_pairs, dtype=torch.float32) / n_pairs)
    return out_CP


@lru_cache
def _all_speeds(width: int, value_width: int, device: torch.device) -> Tensor:
    """Of queries and keys, which turn with both counts, of values, which turn with symbols, and of the way back."""
    of_value_CP = nn.functional.pad(_speeds(value_width, 1), (0, 0, 1, 0))
    return torch.cat([_speeds(width, 2), of_value_CP, -of_value_CP], 1).to(device)


class RotaryAngles(NamedTuple):
    """By how much positions turn what is said there: one complex number of length 1 a pair of dimensions."""

    places_B1TP: Tensor  # of queries and keys
    ago_B1TP: Tensor  # of values
    back_B1TP: Tensor  # of what is made of values: the other way


def turns(count_BTC: Tensor, width: int, value_width: int) -> RotaryAngles:
    """The turns at some counts, worked out once for all heads of a pass."""
    angle_BTP = count_BTC.float() @ _all_speeds(width, value_width, count_BTC.device)
    turn_B1TP = torch.polar(angle_BTP.new_ones(()), angle_BTP)[:, None]
    return RotaryAngles(*turn_B1TP.split([width // 2, value_width // 2, value_width // 2], -1))


@lru_cache
def paired(width: int, n_counts: int, device: torch.device) -> Tensor:
    """The order of a head's dimensions in which the two that turn together are neighbours.

    In the weights they are half a share apart.
    """
    n_pairs = width // 2 // n_counts // 2
    return torch.arange(width).view(-1, 2, n_pairs).transpose(1, 2).flatten().to(device)


def rotate(x_BHTW: Tensor, turn_B1TP: Tensor) -> Tensor:
    """RotaryAngles each pair of neighbouring dimensions."""
    if not torch.is_grad_enabled():  # the same in fewer operations, which have no gradient
        return (x_BHTW.view(torch.complex64) * turn_B1TP).view(torch.float32)
    z_BHTP = torch.view_as_complex(x_BHTW.view(*x_BHTW.shape[:-1], -1, 2))
    return torch.view_as_real(z_BHTP * turn_B1TP).view(x_BHTW.shape)


class VersionedCache(Generic[T]):
    """What is worked out from tensors, as long as nobody writes to them. Nothing is kept where gradients flow.

    Args:
        make: works it out.
        sources: the tensors that ``make`` reads. Where others are put in their place, ``forget`` must be called.
            Both are methods of their module, so that a copy of it works things out from its own tensors.
    """

    def __init__(self, make: Callable[[], T], sources: Callable[[], Sequence[Tensor]]) -> None:
        self._make, self._sources = make, sources
        self.forget()

    def forget(self) -> None:
        """The next call works it out anew."""
        self._of: Sequence[Tensor] | None = None
        self._version = -1
        self._value: T | None = None

    def __call__(self) -> T:
        """The value, on whatever the tensors hold now."""
        if torch.is_grad_enabled():
            return self._make()
        if self._of is None:
            self._of = self._sources()
        try:
            version = sum(t._version for t in self._of)  # it only ever rises
        except RuntimeError:  # an inference tensor counts no writing
            return self._make()
        if self._value is None or version != self._version:
            self._version, self._value = version, self._make()
        return self._value


def _by_head(x_BTY: Tensor, width: int) -> Tensor:
    """(B, H, T, W)."""
    b, t, _ = x_BTY.shape
    return x_BTY.view(b, t, -1, width).transpose(1, 2)


def _by_heads(order_W: Tensor, n_heads: int) -> Tensor:
    """The same order within each of some heads, (H W,)."""
    first_H1 = len(order_W) * torch.arange(n_heads, device=order_W.device)[:, None]
    return (first_H1 + order_W).flatten()


class Heads(nn.Module):
    """Queries and keys of a set of heads, turned by position.

    A reader maps what it reads by ``stacked`` itself, and hands in the result.
    """

    def __init__(self, width_read: int, n_heads: int, width: int, rope: bool) -> None:
        super().__init__()
        self.n_heads, self.width, self.rope = n_heads, width, rope
        self.query = nn.Linear(width_read, n_heads * width)
        self.key = nn.Linear(width_read, n_heads * width)
        with (
            torch.no_grad()
        ):  # inputs are standardised: this starts the heads close to, but not at, indifference
            for layer in (self.query, self.key):
                layer.weight.normal_(std=(0.5 / width_read) ** 0.5)
                layer.bias.normal_(std=0.1)
        # Queries and keys are compared by direction and sharpened by a learnt factor: logits then cannot run away.
        self.log_sharpness_H = nn.Parameter(torch.full((n_heads,), 2.0))

    @property
    def projections(self) -> list[nn.Linear]:
        """The maps that are taken together: in generation a pass is one token, and operations are what costs."""
        return [self.query, self.key]

    def stacked(self) -> tuple[Tensor, Tensor]:
        """All maps in one, by head in the order ``paired``: weight (Y, X) and bias (Y)."""
        order_Y = self.order()
        maps = self.projections
        return torch.cat([m.weight for m in maps])[order_Y], torch.cat([m.bias for m in maps])[order_Y]

    def order(self) -> Tensor:
        """Where in the maps' own order each stacked row lies, (Y,)."""
        device = self.query.weight.device
        order_W = paired(self.width, 2, device) if self.rope else torch.arange(self.width, device=device)
        return _by_heads(order_W, 2 * self.n_heads)

    def sharpness(self) -> Tensor:
        """Factors of queries, and of keys (none), (2 H, 1, 1)."""
        sharpness_H = self.log_sharpness_H.clamp(max=4.5).exp()
        return torch.cat([sharpness_H, torch.ones_like(sharpness_H)])[:, None, None]

    def turned(self, mapped_BTY: Tensor, sharpness_G11: Tensor, turn: RotaryAngles) -> tuple[Tensor, Tensor]:
        """Queries (sharpened) and keys, of directions alone with their positions in, each (B, H, T, W)."""
        both_BTY = mapped_BTY[..., : 2 * self.n_heads * self.width]
        both_BGTW = _by_head(both_BTY, self.width)
        length_BGT1 = torch.linalg.vector_norm(both_BGTW, dim=-1, keepdim=True).clamp(min=1e-12)
        both_BGTW = both_BGTW * (sharpness_G11 / length_BGT1)
        if self.rope:
            both_BGTW = rotate(both_BGTW, turn.places_B1TP)
        q_BHTW, k_BHTW = both_BGTW.split(self.n_heads, 1)
        return q_BHTW, k_BHTW


class ArgumentHeads(Heads):
    """Attention on symbols, trained by the packet's edges."""

    def forward(
        self, mapped_BTY: Tensor, sharpness_G11: Tensor, turn: RotaryAngles, run: Run, hit_SS: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log attention, (B, H, T, N), very negative off the symbols; and p(symbol), (B, H, T, S)."""
        q_BHTW, k_BHTW = self.turned(mapped_BTY, sharpness_G11, turn)
        hit_B1TS = nn.functional.embedding(run.fact_BTX[..., Fact.SYMBOL], hit_SS)[:, None]
        k_BHNW, hit_B1NS = run.extend_keys(Slot.GATHERS, k_BHTW, hit_B1TS)
        hidden_B1TN = (run.symbol_BN == hit_SS.shape[1])[:, None, None]  # padding ends no symbol
        if run.n_tokens > 1:
            hidden_B1TN = hidden_B1TN | run.hidden_BTN[:, None]
        log_BHTN = (q_BHTW @ k_BHNW.transpose(-1, -2)).masked_fill(hidden_B1TN, -1e4).log_softmax(-1)
        if run.n_tokens > 1:  # again: with nothing to see it is spread evenly, over later symbols too
            log_BHTN = log_BHTN.masked_fill(hidden_B1TN, -1e4)
        mass_BXS = log_BHTN.exp().flatten(1, 2) @ hit_B1NS[:, 0]
        return log_BHTN, mass_BXS.view(*q_BHTW.shape[:3], -1)


class ContextHeads(Heads):
    """Attention on everything before. Half of a value tells, by rotation, how many symbols ago it was written."""

    def __init__(self, width_read: int, n_heads: int, width: int, rope: bool, value_width: int) -> None:
        super().__init__(width_read, n_heads, width, rope)
        self.value_width = value_width
        self.value = nn.Linear(width_read, n_heads * value_width)

    @property
    def projections(self) -> list[nn.Linear]:
        return [self.query, self.key, self.value]

    def order(self) -> Tensor:
        return torch.cat([super().order(), 2 * self.n_heads * self.width + self.brought()])

    def brought(self) -> Tensor:
        """Where in the order of the value map each thing lies that the heads bring, (Y,)."""
        return _by_heads(paired(self.value_width, 1, self.value.weight.device), self.n_heads)

    def forward(self, mapped_BTY: Tensor, sharpness_G11: Tensor, turn: RotaryAngles, run: Run) -> Tensor:
        """What the heads bring back, (B, T, Y), in the order ``brought``."""
        q_BLTW, k_BLTW = self.turned(mapped_BTY, sharpness_G11, turn)
        v_BLTV = _by_head(mapped_BTY[..., -self.n_heads * self.value_width :], self.value_width)
        k_BLNW, v_BLNV = run.extend_keys(Slot.LOOKS, k_BLTW, rotate(v_BLTV, turn.ago_B1TP))
        logit_BLTN = (q_BLTW @ k_BLNW.transpose(-1, -2)).masked_fill(run.hidden_BTN[:, None], -1e4)
        found_BLTV = rotate(logit_BLTN.softmax(-1) @ v_BLNV, turn.back_B1TP)
        return found_BLTV.transpose(1, 2).flatten(2)
