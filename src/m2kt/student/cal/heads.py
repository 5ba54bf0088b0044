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
from typing import Any

import torch
from torch import Tensor, nn

from m2kt.student.cal.context import Fact, Run, Slot

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
    n_pairs = x_BHTW.shape[-1] // 2 // n_counts // 2
    other_BHTW = x_BHTW.unflatten(-1, (-1, 2, n_pairs)).flip(-2).flatten(-3)
    return torch.addcmul(x_BHTW * cos, other_BHTW, sin, value=-1.0 if back else 1.0)


class Kept:
    """What was worked out from parameters, as long as they stay what they are. Nothing is kept where gradients flow."""

    def __init__(self) -> None:
        self._of: tuple[tuple[int, int], ...] = ()
        self._value: Any = None

    def __call__(self, make: Callable[[], Any], parameters: Sequence[Tensor]) -> Any:
        """The value of ``make()``, which reads these parameters and no others."""
        if torch.is_grad_enabled() or any(p.is_inference() for p in parameters):
            return make()
        of = tuple((p.data_ptr(), p._version) for p in parameters)
        if self._value is None or of != self._of:
            self._of, self._value = of, make()
        return self._value


class Heads(nn.Module):
    """Queries and keys of a set of heads, turned by position."""

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
        self._together = Kept()

    @property
    def projections(self) -> list[nn.Linear]:
        """The maps that are taken together, for in generation a pass is one token and what costs is the number of operations."""
        return [self.query, self.key]

    def turned(self, x_BTX: Tensor, run: Run) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (sharpened) and keys, of directions alone with their positions in, (B, H, T, W); and the rest, (B, T, Y)."""
        maps = self.projections
        sources = [self.log_sharpness_H, *(p for m in maps for p in (m.weight, m.bias))]
        weight_YX, bias_Y, sharpness_G11 = self._together(self._stacked, sources)
        n_both = 2 * self.n_heads * self.width
        all_BTY = nn.functional.linear(x_BTX, weight_YX, bias_Y)
        both_BGTW = all_BTY[..., :n_both].unflatten(-1, (-1, self.width)).transpose(1, 2)
        both_BGTW = nn.functional.normalize(both_BGTW, dim=-1) * sharpness_G11
        if self.rope:
            both_BGTW = rotate(both_BGTW, *turns(run, PLACES, self.width), n_counts=2)
        q_BHTW, k_BHTW = both_BGTW.split(self.n_heads, 1)
        return q_BHTW, k_BHTW, all_BTY[..., n_both:]

    def _stacked(self) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.projections
        sharpness_H = self.log_sharpness_H.clamp(max=4.5).exp()
        return (
            torch.cat([m.weight for m in maps]),
            torch.cat([m.bias for m in maps]),
            torch.cat([sharpness_H, torch.ones_like(sharpness_H)])[:, None, None],
        )


class GatherHeads(Heads):
    """Attention on symbols, trained by the packet's edges."""

    def forward(self, x_BTX: Tensor, run: Run, n_symbols: int) -> Tensor:
        """Log attention, (B, H, T, N); very negative off the symbols."""
        q_BHTW, k_BHTW, _ = self.turned(x_BTX, run)
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

    def forward(self, x_BTX: Tensor, run: Run) -> Tensor:
        """What the heads bring back, (B, T, Y)."""
        turn = turns(run, SYMBOLS_AGO, self.value_width)
        q_BLTW, k_BLTW, v_BTY = self.turned(x_BTX, run)
        v_BLTV = v_BTY.unflatten(-1, (self.n_heads, self.value_width)).transpose(1, 2)
        k_BLNW, v_BLNV = run.extend_keys(Slot.LOOKS, k_BLTW, rotate(v_BLTV, *turn, n_counts=1))
        logit_BLTN = (q_BLTW @ k_BLNW.transpose(-1, -2)).masked_fill(run.hidden_BTN[:, None], -1e4)
        found_BLTV = rotate(logit_BLTN.softmax(-1) @ v_BLNV, *turn, n_counts=1, back=True)
        return found_BLTV.transpose(1, 2).flatten(2)


def symbol_mass(log_attention_BHTN: Tensor, run: Run, n_symbols: int) -> Tensor:
    """p(symbol): the attention that lies on positions writing each symbol, (B, H, T, S)."""
    hit_BNS = run.symbol_BN[..., None] == torch.arange(n_symbols, device=run.symbol_BN.device)
    attention_BXN = log_attention_BHTN.exp().flatten(1, 2)
    return (attention_BXN @ hit_BNS.to(attention_BXN.dtype)).unflatten(1, log_attention_BHTN.shape[1:3])
