"""L_safety (Eq. 17-18): the reader keeps off flagged concepts."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from m2kt.student.losses._base import Outputs
from m2kt.student.rehearsal import Batch


class SafetyLoss:
    """sum_k Penalty(c_k) over flagged concepts: the largest weight the reader would give any of them at a position.

    Flagged concepts are also filtered: their weight is multiplied by zero in every pass and rehearsal never
    uses their rows, so this term only pushes the reader off what remains of them.
    """

    name: ClassVar[str] = "safety"
    equation: ClassVar[str] = "L_safety = mean over positions of max over flagged k of w_k"
    needs: ClassVar[frozenset[str]] = frozenset({"readers"})

    def __call__(self, batch: Batch, outputs: Outputs) -> Tensor:
        flagged = outputs.config.flagged
        total = torch.zeros((), device=batch.token_BT.device)
        for reader in outputs.readers:
            if flagged and reader.usage_BTK is not None:
                total = total + reader.usage_BTK[..., flagged].amax(-1).mean()
        return total
