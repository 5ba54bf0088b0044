"""Retention: outside the skill, the student says what it said before."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from m2kt.student.losses._base import Outputs
from m2kt.student.rehearsal import Batch


class RetainLoss:
    """KL(base || adapted) of the next token on neutral text. Not part of Eq. 12-18; off by default."""

    name: ClassVar[str] = "retain"
    equation: ClassVar[str] = "L_retain = mean over neutral tokens of KL(p_base || p)"
    needs: ClassVar[frozenset[str]] = frozenset({"neutral_logits_NV", "neutral_base_NV"})

    def __call__(self, batch: Batch, outputs: Outputs) -> Tensor:
        assert outputs.neutral_logits_NV is not None and outputs.neutral_base_NV is not None
        return functional.kl_div(
            outputs.neutral_logits_NV.float().log_softmax(-1),
            outputs.neutral_base_NV.float().log_softmax(-1),
            log_target=True,
            reduction="batchmean",
        )
