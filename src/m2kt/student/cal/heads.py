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

from functools import lru_cache

import torch
from torch import Tensor, nn

from m2kt.student.cal.context import Run, Slot

_BASE = 200.0  # slowest rotation takes about 2 pi * base tokens; rehearsed traces are far shorter


@lru_cache
def _frequencies(half: int, device: torch.device) -> Tensor:
    return _BASE ** (-torch.arange(half, device=device, dtype=torch.float32) / half)


def angles(count_BTc: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (B, 1, T, counts, half), of angles proportional to some counts."""
    angle_BTcw = count_BTc[..., None].float() * _frequencies(half, count_BTc.device)
    return angle_BTcw.cos()[:, None], angle_BTcw.sin()[:, None]


def turns(run: Run, counts: tuple[str, ...], half: int) -> tuple[Tensor, Tensor]:
    """The angles of counts of ``run`` at the positions of this pass; worked out once for all heads."""
    key = (counts, half)
    if key not in run.turns:
        count_BTc = torch.stack([getattr(run, count)[:, run.n_past :] for count in counts], -1)
        run.turns[key] = angles(count_BTc, half)
    return run.turns[key]


def rotate(x_BHTW: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates pairs of dimensions, a part of them for each count; with the sine negated, back again."""
    n_counts, half = cos.shape[-2:]
    a, b = x_BHTW.unflatten(-1, (n_counts, 2, half)).unbind(-2)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -2).flatten(-3)


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

    def logits(self, q_BHTW: Tensor, k_BHNW: Tensor) -> Tensor:
        """Compared queries and keys, (B, H, T, N)."""
        return (q_BHTW @ k_BHNW.transpose(-1, -2)) * self.log_sharpness_H.clamp(max=4.5).exp()[:, None, None]

    def turned(self, x_BTX: Tensor, run: Run) -> tuple[Tensor, Tensor]:
        """Queries and keys, of length one, with their positions in, each (B, H, T, W)."""
        # one path for both: in generation a pass is one token, and what costs is the number of operations
        both_BTY = torch.cat([self.query(x_BTX), self.key(x_BTX)], -1)
        both_BGTW = nn.functional.normalize(both_BTY.unflatten(-1, (-1, self.width)).transpose(1, 2), dim=-1)
        if self.rope:
            quarter = self.width // 4
            content, placed = both_BGTW.split([self.width - 2 * quarter, 2 * quarter], -1)
            placed = rotate(placed, *turns(run, ("position_BN", "ordinal_BN"), quarter // 2))
            both_BGTW = torch.cat([content, placed], -1)
        q_BHTW, k_BHTW = both_BGTW.split(self.n_heads, 1)
        return q_BHTW, k_BHTW


class GatherHeads(Heads):
    """Attention on symbols, trained by the packet's edges."""

    def forward(self, x_BTX: Tensor, run: Run, n_symbols: int) -> Tensor:
        """Log attention, (B, H, T, N); very negative off the symbols."""
        q_BHTW, k_BHTW = self.turned(x_BTX, run)
        k_BHNW, _ = run.extend_keys(Slot.GATHERS, k_BHTW, k_BHTW[..., :1])
        logit_BHTN = self.logits(q_BHTW, k_BHNW)
        hidden_B1TN = ~(run.seen_BTN & (run.symbol_BN < n_symbols)[:, None, :])[:, None]
        log_attention_BHTN = logit_BHTN.masked_fill(hidden_B1TN, -1e4).log_softmax(-1)
        return log_attention_BHTN.masked_fill(
            hidden_B1TN, -1e4
        )  # again: with nothing to see it would be spread evenly


class LookHeads(Heads):
    """Attention on everything before. Half of a value tells, by rotation, how many symbols ago it was written."""

    def __init__(self, width_read: int, n_heads: int, width: int, rope: bool, value_width: int) -> None:
        super().__init__(width_read, n_heads, width, rope)
        self.value_width = value_width
        self.value = nn.Linear(width_read, n_heads * value_width)

    def forward(self, x_BTX: Tensor, run: Run) -> Tensor:
        """What the heads bring back, (B, T, Y)."""
        half = self.value_width // 2
        cos, sin = turns(run, ("ordinal_BN",), half // 2)
        v_BLTV = self.value(x_BTX).unflatten(-1, (self.n_heads, self.value_width)).transpose(1, 2)
        v_BLTV = torch.cat([v_BLTV[..., :half], rotate(v_BLTV[..., half:], cos, sin)], -1)
        q_BLTW, k_BLTW = self.turned(x_BTX, run)
        k_BLNW, v_BLNV = run.extend_keys(Slot.LOOKS, k_BLTW, v_BLTV)
        logit_BLTN = self.logits(q_BLTW, k_BLNW)
        found_BLTV = logit_BLTN.masked_fill(~run.seen_BTN[:, None], -1e4).softmax(-1) @ v_BLNV
        found_BLTV = torch.cat([found_BLTV[..., :half], rotate(found_BLTV[..., half:], cos, -sin)], -1)
        return found_BLTV.transpose(1, 2).flatten(2)


def symbol_mass(log_attention_BHTN: Tensor, run: Run, n_symbols: int) -> Tensor:
    """p(symbol): the attention that lies on positions writing each symbol, (B, H, T, S)."""
    hit_BNS = nn.functional.one_hot(run.symbol_BN, n_symbols + 1)[..., :n_symbols]
    hit_BNS = hit_BNS.to(log_attention_BHTN.dtype) * run.mask_BN[..., None]
    return torch.einsum("bhtn,bns->bhts", log_attention_BHTN.exp(), hit_BNS)
