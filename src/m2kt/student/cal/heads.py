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

import torch
from torch import Tensor, nn

from m2kt.student.cal.context import Run, Slot

_BASE = 200.0  # slowest rotation takes about 2 pi * base tokens; rehearsed traces are far shorter


def angles(count_BT: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (B, 1, T, half), of angles proportional to a count."""
    frequency_w = _BASE ** (-torch.arange(half, device=count_BT.device, dtype=torch.float32) / half)
    angle_BTw = count_BT[..., None].float() * frequency_w
    return angle_BTw.cos()[:, None], angle_BTw.sin()[:, None]


def turns(run: Run, count: str, half: int) -> tuple[Tensor, Tensor]:
    """The angles of a count of ``run`` at the positions of this pass; worked out once for all heads."""
    key = (count, half)
    if key not in run.turns:
        run.turns[key] = angles(getattr(run, count)[:, run.n_past :], half)
    return run.turns[key]


def rotate(x_BHTW: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates pairs of dimensions; with the sine negated, back again."""
    half = x_BHTW.shape[-1] // 2
    a, b = x_BHTW[..., :half], x_BHTW[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


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

    def turned(self, x_BTY: Tensor, run: Run) -> Tensor:
        """Heads apart, of length one, with their positions in, (B, H, T, W)."""
        x_BHTW = nn.functional.normalize(
            x_BTY.unflatten(-1, (self.n_heads, self.width)).transpose(1, 2), dim=-1
        )
        if not self.rope:
            return x_BHTW
        quarter = self.width // 4
        content, tokens, symbols = x_BHTW.split([self.width - 2 * quarter, quarter, quarter], -1)
        tokens = rotate(tokens, *turns(run, "position_BN", quarter // 2))
        symbols = rotate(symbols, *turns(run, "ordinal_BN", quarter // 2))
        return torch.cat([content, tokens, symbols], -1)


class GatherHeads(Heads):
    """Attention on symbols, trained by the packet's edges."""

    def forward(self, x_BTX: Tensor, run: Run, n_symbols: int) -> Tensor:
        """Log attention, (B, H, T, N); very negative off the symbols."""
        q_BHTW = self.turned(self.query(x_BTX), run)
        k_BHTW = self.turned(self.key(x_BTX), run)
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
        cos, sin = turns(run, "ordinal_BN", half // 2)
        v_BLTV = self.value(x_BTX).unflatten(-1, (self.n_heads, self.value_width)).transpose(1, 2)
        v_BLTV = torch.cat([v_BLTV[..., :half], rotate(v_BLTV[..., half:], cos, sin)], -1)
        q_BLTW = self.turned(self.query(x_BTX), run)
        k_BLNW, v_BLNV = run.extend_keys(Slot.LOOKS, self.turned(self.key(x_BTX), run), v_BLTV)
        logit_BLTN = self.logits(q_BLTW, k_BLNW)
        found_BLTV = logit_BLTN.masked_fill(~run.seen_BTN[:, None], -1e4).softmax(-1) @ v_BLNV
        found_BLTV = torch.cat([found_BLTV[..., :half], rotate(found_BLTV[..., half:], cos, -sin)], -1)
        return found_BLTV.transpose(1, 2).flatten(2)


def symbol_mass(log_attention_BHTN: Tensor, run: Run, n_symbols: int) -> Tensor:
    """p(symbol): the attention that lies on positions writing each symbol, (B, H, T, S)."""
    hit_BNS = nn.functional.one_hot(run.symbol_BN, n_symbols + 1)[..., :n_symbols]
    hit_BNS = hit_BNS.to(log_attention_BHTN.dtype) * run.mask_BN[..., None]
    return torch.einsum("bhtn,bns->bhts", log_attention_BHTN.exp(), hit_BNS)
