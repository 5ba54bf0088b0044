"""L_reason (Eq. 15-16): the student writes the steps of the trace."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from m2kt._shapes import Float
from m2kt.student.losses._base import Loss, Outputs


class ReasonLoss(Loss):
    """sum_i CE(s_i, t_i) over answer tokens. At v = 0 the traces follow randomised tables, never the teacher."""

    name: ClassVar[str] = "reason"
    equation: ClassVar[str] = "L_reason = mean over answer tokens of -log p(token)"
    needs: ClassVar[frozenset[str]] = frozenset({"logits_NV", "labels_N"})

    def __call__(self, outputs: Outputs) -> Float[Tensor, ""]:
        assert outputs.logits_NV is not None and outputs.labels_N is not None
        return functional.cross_entropy(outputs.logits_NV.float(), outputs.labels_N)
