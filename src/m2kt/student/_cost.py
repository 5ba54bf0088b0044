"""Cost of training in one unit: tokens of a full forward and backward pass of the frozen student.

A product with a matrix of P entries costs 2P operations a token forward, 2P for the gradient of its input, and 2P for
the gradient of a trained matrix. Attention scores are left out on every side of a comparison.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TypedDict, cast

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from m2kt.models import blocks


class Pass(StrEnum):
    """Kinds of passes over a token. Values are the keys of ``tokens_by_kind`` in ledgers."""

    FORWARD = "forward"
    """The student forward; nothing is trained."""
    END_TO_END = "whole"
    """Forward and backward through the whole student."""
    FULL_FORWARD = "written"
    """Forward, and backward from the logits down to the block where the reader writes."""
    READER_ONLY = "read_along"
    """Forward up to the last block that the reader reads."""
    REPLAY = "met_again"
    """The reader alone, on cached states."""


class CostSummary(TypedDict):
    """The cost entries of a ledger."""

    trained_tokens: int
    tokens_by_kind: dict[str, int]
    core_tokens: float


class Cost:
    """Counts tokens by kind of pass.

    Args:
        model: the student, with or without adapter.
        trained: number of trained parameters; each counts as used by every token.
        read: share of blocks up to the last one that the reader reads.
        write: share of blocks up to the one where it writes.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, trained: int, read: float = 1.0, write: float = 0.0) -> None:
        body = sum(_frozen_entries(block) for block in blocks(model))
        head = int(cast(PreTrainedModel, model).get_output_embeddings().weight.numel())
        self.unit = 4.0 * (body + head)
        adapter = 6.0 * trained
        self.price: dict[Pass, float] = {
            Pass.FORWARD: self.unit / 2,
            Pass.END_TO_END: self.unit + adapter,
            Pass.FULL_FORWARD: 4.0 * (body + head) - 2.0 * write * body + adapter,
            Pass.READER_ONLY: 2.0 * read * body + adapter,
            Pass.REPLAY: adapter,
        }
        self.tokens: Counter[Pass] = Counter()

    def add(self, kind: Pass, tokens: int) -> None:
        """Count ``tokens`` of one kind of pass."""
        self.tokens[kind] += tokens

    def summary(self) -> CostSummary:
        """All tokens, tokens by kind, and the cost in tokens of a full forward and backward pass."""
        operations = sum(self.price[kind] * n for kind, n in self.tokens.items())
        return {
            "trained_tokens": sum(self.tokens.values()),
            "tokens_by_kind": {kind.value: n for kind, n in self.tokens.items()},
            "core_tokens": round(operations / self.unit, 1),
        }


def _frozen_entries(block: nn.Module) -> int:
    """Entries of a block's frozen matrices."""
    return sum(p.numel() for p in block.parameters() if p.ndim > 1 and not p.requires_grad)
