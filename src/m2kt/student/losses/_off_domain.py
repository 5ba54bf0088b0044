"""Off-domain regularisation: the reader injects nothing into text unrelated to the skill."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from m2kt._shapes import Float
from m2kt.student.losses._base import Loss, Outputs


class OffDomainLoss(Loss):
    """-log p(none) on off-domain lines and, with ``retain``, KL to the frozen student there.

    Its weight is ``losses.silence`` in configurations.
    """

    name: ClassVar[str] = "silence"
    equation: ClassVar[str] = "L_off = mean over off-domain positions of -log p(none) + retain KL(frozen || student)"
    needs: ClassVar[frozenset[str]] = frozenset({"log_none"})

    def __call__(self, outputs: Outputs) -> Float[Tensor, ""]:
        assert outputs.log_none is not None
        loss = -outputs.log_none
        if outputs.divergence is not None:
            loss = loss + self.settings.retain * outputs.divergence
        return loss
