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
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from m2kt.student.cal.context import Fact, Run, Slot

T = TypeVar("T")
PLACES = slice(Fact.POSITION, Fact.ORDINAL + 1)
SYMBOLS_AGO = slice(Fact.ORDINAL, Fact.ORDINAL + 1)
_BASE = 200.0  # slowest rotation takes about 2 pi * base tokens; rehearsed traces are far shorter


@lru_cache
def _frequencies(width: int, n_counts: int, device: torch.device) -> Tensor:
    """How fast each dimension turns with each count, (counts, W): the first half not at all, the rest shared out.

    Dimensions turn in pairs half a share apart; the first of a pair has the other sign, so that one sine serves both.
    """
    n_pairs = width // 2 // n_counts // 2
    speed_P = _BASE ** (-torch.arange(n_pairs, dtype=torch.float32) / n_pairs)
    share_S = torch.cat([-speed_P, speed_P])
    out_CW = torch.zeros(n_counts, width)
    for c in range(n_counts):
        first = width - (n_counts - c) * len(share_S)
        out_CW[c, first : first + len(share_S)] = share_S
    return out_CW.to(device)


def angles(count_BTC: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines, (B, 1, T, W), of angles proportional to some counts."""
    angle_BTW = count_BTC.float() @ _frequencies(width, count_BTC.shape[-1], count_BTC.device)
    return angle_BTW.cos()[:, None], angle_BTW.sin()[:, None]


def turns(run: Run, counts: slice, width: int) -> tuple[Tensor, Tensor]:
    """The angles of the facts that count, at the positions of this pass; worked out once for all heads."""
    key = (counts.start, counts.stop, width)
    if key not in run.turns:
        run.turns[key] = angles(run.fact_BTX[..., counts], width)
    return run.turns[key]


def rotate(x_BHTW: Tensor, cos: Tensor, sin: Tensor, n_counts: int, back: bool = False) -> Tensor:
    """Turns the second half of the dimensions, a part of it for each count; or back again."""
    b, h, t, width = x_BHTW.shape
    n_pairs = width // 2 // n_counts // 2
    other_BHTW = x_BHTW.view(b, h, t, -1, 2, n_pairs).flip(-2).view(x_BHTW.shape)
    return torch.addcmul(x_BHTW * cos, other_BHTW, sin, value=-1.0 if back else 1.0)


class Kept(Generic[T]):
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
        if any(t.is_inference() for t in self._of):  # those count no writing
            return self._make()
        version = sum(t._version for t in self._of)  # it only ever rises
        if self._value is None or version != self._version:
            self._version, self._value = version, self._make()
        return self._value


def _by_head(x_BTY: Tensor, width: int) -> Tensor:
    """(B, H, T, W)."""
    b, t, _ = x_BTY.shape
    return x_BTY.view(b, t, -1, width).transpose(1, 2)


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
        """All maps in one: weight (Y, X) and bias (Y)."""
        maps = self.projections
        return torch.cat([m.weight for m in maps]), torch.cat([m.bias for m in maps])

    def sharpness(self) -> Tensor:
        """Factors of queries, and of keys (none), (2 H, 1, 1)."""
        sharpness_H = self.log_sharpness_H.clamp(max=4.5).exp()
        return torch.cat([sharpness_H, torch.ones_like(sharpness_H)])[:, None, None]

    def turned(self, mapped_BTY: Tensor, sharpness_G11: Tensor, run: Run) -> tuple[Tensor, Tensor]:
        """Queries (sharpened) and keys, of directions alone with their positions in, each (B, H, T, W)."""
        both_BTY = mapped_BTY[..., : 2 * self.n_heads * self.width]
        both_BGTW = _by_head(both_BTY, self.width)
        length_BGT1 = torch.linalg.vector_norm(both_BGTW, dim=-1, keepdim=True).clamp(min=1e-12)
        both_BGTW = both_BGTW * (sharpness_G11 / length_BGT1)
        if self.rope:
            both_BGTW = rotate(both_BGTW, *turns(run, PLACES, self.width), n_counts=2)
        q_BHTW, k_BHTW = both_BGTW.split(self.n_heads, 1)
        return q_BHTW, k_BHTW


class GatherHeads(Heads):
    """Attention on symbols, trained by the packet's edges."""

    def forward(self, mapped_BTY: Tensor, sharpness_G11: Tensor, run: Run, n_symbols: int) -> Tensor:
        """Log attention, (B, H, T, N); very negative off the symbols."""
        q_BHTW, k_BHTW = self.turned(mapped_BTY, sharpness_G11, run)
        k_BHNW, _ = run.extend_keys(Slot.GATHERS, k_BHTW, k_BHTW[..., :0])
        hidden_B1TN = (run.hidden_BTN | (run.symbol_BN == n_symbols)[:, None])[:, None]
        logit_BHTN = (q_BHTW @ k_BHNW.transpose(-1, -2)).masked_fill(hidden_B1TN, -1e4)
        # again: with nothing to see it would be spread evenly
        return logit_BHTN.log_softmax(-1).masked_fill(hidden_B1TN, -1e4)


class LookHeads(Heads):
    """Attention on everything before. Half of a value tells, by rotation, how many symbols ago it was written."""

    def __init__(self, width_read: int, n_heads: int, width: int, rope: bool, value_width: int) -> None:
        super().__init__(width_read, n_heads, width, rope)
        self.value_width = value_width
        self.value = nn.Linear(width_read, n_heads * value_width)

    @property
    def projections(self) -> list[nn.Linear]:
        return [self.query, self.key, self.value]

    def forward(self, mapped_BTY: Tensor, sharpness_G11: Tensor, run: Run) -> Tensor:
        """What the heads bring back, (B, T, Y)."""
        turn = turns(run, SYMBOLS_AGO, self.value_width)
        q_BLTW, k_BLTW = self.turned(mapped_BTY, sharpness_G11, run)
        v_BLTV = _by_head(mapped_BTY[..., -self.n_heads * self.value_width :], self.value_width)
        k_BLNW, v_BLNV = run.extend_keys(Slot.LOOKS, k_BLTW, rotate(v_BLTV, *turn, n_counts=1))
        logit_BLTN = (q_BLTW @ k_BLNW.transpose(-1, -2)).masked_fill(run.hidden_BTN[:, None], -1e4)
        found_BLTV = rotate(logit_BLTN.softmax(-1) @ v_BLNV, *turn, n_counts=1, back=True)
        return found_BLTV.transpose(1, 2).flatten(2)


def symbol_mass(log_attention_BHTN: Tensor, hit_BNS: Tensor) -> Tensor:
    """p(symbol): the attention that lies on positions writing each symbol, (B, H, T, S)."""
    n_heads, n_tokens = log_attention_BHTN.shape[1:3]
    mass_BXS = log_attention_BHTN.exp().flatten(1, 2) @ hit_BNS
    return mass_BXS.view(-1, n_heads, n_tokens, hit_BNS.shape[-1])
