"""Gather heads: attention from the present position to the symbols written before it.

A head looks at symbols only, so it never has to learn what is a symbol and what is punctuation. Half of its width compares
content; a quarter compares positions counted in tokens and a quarter positions counted in symbols, by rotation (RoPE):
"three symbols back" is then one direction, whatever lies between.

Letters: B sequences, T tokens of this pass, N tokens so far, E student width, H heads, W head width, S symbols.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from m2kt.student.cal.context import Run

_BASE = 200.0  # slowest rotation takes about 2 pi * base tokens; rehearsed traces are far shorter


def rotate(x_BHTW: Tensor, position_BT: Tensor) -> Tensor:
    """Rotates pairs of dimensions by angles proportional to the position."""
    half = x_BHTW.shape[-1] // 2
    frequency_w = _BASE ** (-torch.arange(half, device=x_BHTW.device, dtype=torch.float32) / half)
    angle_BTw = position_BT[..., None].float() * frequency_w
    cos, sin = angle_BTw.cos()[:, None], angle_BTw.sin()[:, None]
    a, b = x_BHTW[..., :half], x_BHTW[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class GatherHeads(nn.Module):
    """All gather heads of a reader at once."""

    def __init__(self, student_width: int, n_heads: int, width: int, rope: bool) -> None:
        super().__init__()
        self.n_heads, self.width, self.rope = n_heads, width, rope
        self.query = nn.Linear(student_width, n_heads * width)
        self.key = nn.Linear(student_width, n_heads * width)
        with torch.no_grad():  # inputs are standardised: this starts the heads close to, but not at, indifference
            for layer in (self.query, self.key):
                layer.weight.normal_(std=(0.5 / student_width) ** 0.5)
                layer.bias.normal_(std=0.1)

    def _split(self, x_BTX: Tensor, position_BT: Tensor, ordinal_BT: Tensor) -> Tensor:
        x_BHTW = x_BTX.unflatten(-1, (self.n_heads, self.width)).transpose(1, 2)
        if not self.rope:
            return x_BHTW
        quarter = self.width // 4
        content, tokens, symbols = x_BHTW.split([self.width - 2 * quarter, quarter, quarter], -1)
        return torch.cat([content, rotate(tokens, position_BT), rotate(symbols, ordinal_BT)], -1)

    def forward(self, x_BTE: Tensor, run: Run, slot: int, n_symbols: int) -> Tensor:
        """Log attention over the symbols written so far, (B, H, T, N); very negative elsewhere."""
        past = run.n_past
        here = (run.position_BN[:, past:], run.ordinal_BN[:, past:])
        q_BHTW = self._split(self.query(x_BTE), *here)
        k_BHNW = run.extend_keys(slot, self._split(self.key(x_BTE), *here)).to(q_BHTW.dtype)
        logit_BHTN = q_BHTW @ k_BHNW.transpose(-1, -2) / self.width**0.5
        n = k_BHNW.shape[2]
        t_T = torch.arange(past, n, device=x_BTE.device)
        causal_TN = torch.arange(n, device=x_BTE.device)[None, :] <= t_T[:, None]
        target_BN = (run.symbol_BN < n_symbols) & run.mask_BN
        visible_BTN = causal_TN[None] & target_BN[:, None, :]
        return logit_BHTN.masked_fill(~visible_BTN[:, None], -1e4).log_softmax(-1)


def symbol_mass(log_attention_BHTN: Tensor, run: Run, n_symbols: int) -> Tensor:
    """p(symbol): the attention that lies on positions writing each symbol, (B, H, T, S)."""
    hit_BNS = nn.functional.one_hot(run.symbol_BN, n_symbols + 1)[..., :n_symbols]
    hit_BNS = hit_BNS.to(log_attention_BHTN.dtype) * run.mask_BN[..., None]
    return torch.einsum("bhtn,bns->bhts", log_attention_BHTN.exp(), hit_BNS)
