"""Gather heads: attention from the present position to the symbols written before it.

A head looks at symbols only, so it never has to learn what is a symbol and what is punctuation. Half of its width compares
content; a quarter compares positions counted in tokens and a quarter positions counted in symbols, by rotation (RoPE):
"three symbols back" is then one direction, whatever lies between.

Letters: B sequences, T tokens of this pass, N tokens so far, X width that is read, H heads, W head width, S symbols.
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
    """All heads of a reader at once: gather heads, which see symbols only, and look heads, which see every token.

    A look head is not told where to look. It serves the selector: what it brings back is a value of the state, an embedding
    of the symbol written there, and, by rotation, how many symbols ago that was.
    """

    def __init__(
        self, width_read: int, n_heads: int, width: int, rope: bool, n_look: int, look_width: int, n_symbols: int
    ) -> None:
        super().__init__()
        self.n_heads, self.n_look, self.width, self.rope = n_heads, n_look, width, rope
        self.look_width = look_width
        self.query = nn.Linear(width_read, (n_heads + n_look) * width)
        self.key = nn.Linear(width_read, (n_heads + n_look) * width)
        self.value = nn.Linear(width_read, n_look * look_width)
        self.symbol = nn.Embedding(n_symbols + 1, n_look * look_width)
        with torch.no_grad():  # inputs are standardised: this starts the heads close to, but not at, indifference
            for layer in (self.query, self.key):
                layer.weight.normal_(std=(0.5 / width_read) ** 0.5)
                layer.bias.normal_(std=0.1)
            self.value.weight.normal_(std=(0.5 / width_read) ** 0.5)
            self.symbol.weight.normal_(std=0.5)

    def _split(self, x_BTY: Tensor, position_BT: Tensor, ordinal_BT: Tensor) -> Tensor:
        x_BHTW = x_BTY.unflatten(-1, (self.n_heads + self.n_look, self.width)).transpose(1, 2)
        if not self.rope:
            return x_BHTW
        quarter = self.width // 4
        content, tokens, symbols = x_BHTW.split([self.width - 2 * quarter, quarter, quarter], -1)
        return torch.cat([content, rotate(tokens, position_BT), rotate(symbols, ordinal_BT)], -1)

    def _value(self, x_BTX: Tensor, run: Run, past: int) -> Tensor:
        v_BTY = self.value(x_BTX) + self.symbol(run.symbol_BN[:, past:])
        v_BLTV = v_BTY.unflatten(-1, (self.n_look, self.look_width)).transpose(1, 2)
        half = self.look_width // 2
        return torch.cat([v_BLTV[..., :half], rotate(v_BLTV[..., half:], run.ordinal_BN[:, past:])], -1)

    def forward(self, x_BTX: Tensor, run: Run, slot: int, n_symbols: int) -> tuple[Tensor, Tensor]:
        """Log attention of the gather heads, (B, H, T, N), very negative off the symbols; and what look heads bring, (B, T, Y)."""
        past = run.n_past
        here = (run.position_BN[:, past:], run.ordinal_BN[:, past:])
        q_BHTW = self._split(self.query(x_BTX), *here)
        k_BHTW = self._split(self.key(x_BTX), *here)
        k_BHNW, v_BLNV = run.extend_keys(slot, k_BHTW, self._value(x_BTX, run, past))
        logit_BHTN = q_BHTW @ k_BHNW.transpose(-1, -2) / self.width**0.5
        n = k_BHNW.shape[2]
        t_T = torch.arange(past, n, device=x_BTX.device)
        seen_BTN = (torch.arange(n, device=x_BTX.device)[None, :] <= t_T[:, None])[None] & run.mask_BN[:, None, :]
        symbol_BTN = seen_BTN & (run.symbol_BN < n_symbols)[:, None, :]
        gather_BHTN = logit_BHTN[:, : self.n_heads].masked_fill(~symbol_BTN[:, None], -1e4).log_softmax(-1)
        look_BLTN = logit_BHTN[:, self.n_heads :].masked_fill(~seen_BTN[:, None], -1e4).softmax(-1)
        found_BLTV = look_BLTN @ v_BLNV
        half = self.look_width // 2
        turned = rotate(found_BLTV[..., half:], -here[1])  # rotated back: what is left is the distance
        return gather_BHTN, torch.cat([found_BLTV[..., :half], turned], -1).transpose(1, 2).flatten(2)


def symbol_mass(log_attention_BHTN: Tensor, run: Run, n_symbols: int) -> Tensor:
    """p(symbol): the attention that lies on positions writing each symbol, (B, H, T, S)."""
    hit_BNS = nn.functional.one_hot(run.symbol_BN, n_symbols + 1)[..., :n_symbols]
    hit_BNS = hit_BNS.to(log_attention_BHTN.dtype) * run.mask_BN[..., None]
    return torch.einsum("bhtn,bns->bhts", log_attention_BHTN.exp(), hit_BNS)
