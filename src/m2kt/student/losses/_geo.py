"""L_geo (Eq. 12-13): phi(c) lies where the student's own state for that concept lies."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from m2kt.student._batching import Batch
from m2kt.student.losses._base import Outputs


class GeoLoss:
    """sum_k ||phi(c_k) - c^S_k||^2, over the pool of symbol states, relative to the size of c^S.

    c^S is probed where the frozen student is about to write the symbol's token (``calibrate``): one target
    for each token of a spelling. For the flat reader the retrieval term of L_struct is its contrastive
    partner.
    """

    name: ClassVar[str] = "geo"
    equation: ClassVar[str] = "L_geo = mean ||phi(c) - c_S||^2 / mean ||c_S||^2"
    needs: ClassVar[frozenset[str]] = frozenset({"image_PJE", "own_PJE", "own_known_PJ"})

    def __call__(self, batch: Batch, outputs: Outputs) -> Tensor:
        assert (
            outputs.image_PJE is not None and outputs.own_PJE is not None and outputs.own_known_PJ is not None
        )
        known_PJ = outputs.own_known_PJ.float()
        error = ((outputs.image_PJE - outputs.own_PJE).square().sum(-1) * known_PJ).sum()
        return error / (outputs.own_PJE.square().sum(-1) * known_PJ).sum().clamp(min=1e-6)
