"""What training cost, in one currency: tokens of a whole forward and backward pass of the frozen student.

A product with a matrix of P entries costs 2P operations a token forward, 2P for the gradient of its input, and 2P for
the gradient of the matrix itself where it is trained. Attention scores are left out, on every side of a comparison.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from torch import nn

from m2kt.models import blocks

Kind = Literal["forward", "whole", "written", "read_along", "met_again"]


class Cost:
    """Counts tokens by what ran on them.

    forward: the student forward, nothing trained. whole: forward and backward. written: forward, and backward from
    the logits down to where the reader writes. read_along: forward up to where the reader reads. met_again: the
    reader alone, on known states.

    Args:
        model: the student, with or without adapter.
        trained: parameters that are trained; each is counted as if every token met it.
        read: share of the blocks below the reader's highest reading.
        write: share of the blocks below its writing.
    """

    def __init__(self, model: Any, trained: int, read: float = 1.0, write: float = 0.0) -> None:
        body = sum(_frozen(block) for block in blocks(model))
        head = int(model.get_output_embeddings().weight.numel())
        self.whole = 4.0 * (body + head)
        own = 6.0 * trained
        self.price: dict[str, float] = {
            "forward": self.whole / 2,
            "whole": self.whole + own,
            "written": 4.0 * (body + head) - 2.0 * write * body + own,
            "read_along": 2.0 * read * body + own,
            "met_again": own,
        }
        self.tokens: Counter[str] = Counter()

    def add(self, kind: Kind, tokens: int) -> None:
        """``tokens`` more of a kind."""
        self.tokens[kind] += tokens

    def summary(self) -> dict[str, Any]:
        """``trained_tokens`` of all kinds, the same ``by_kind``, and ``core_tokens``, the currency."""
        spent = sum(self.price[kind] * n for kind, n in self.tokens.items())
        return {
            "trained_tokens": sum(self.tokens.values()),
            "tokens_by_kind": dict(self.tokens),
            "core_tokens": round(spent / self.whole, 1),
        }


def _frozen(block: nn.Module) -> int:
    """Entries of a block's own matrices."""
    return sum(p.numel() for p in block.parameters() if p.ndim > 1 and not p.requires_grad)
