"""L_geo (Eq. 12-13): phi maps a concept to the student's own state for it."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from m2kt._shapes import Float
from m2kt.student.losses._base import Loss, Outputs


class GeoLoss(Loss):
    """sum_k ||phi(c_k) - c^S_k||^2 over the prototype samples, relative to the size of c^S.

    There is one target for each token of a symbol. For the flat reader the retrieval term of L_struct is the
    contrastive counterpart.
    """

    name: ClassVar[str] = "geo"
    equation: ClassVar[str] = "L_geo = mean ||phi(c) - c_S||^2 / mean ||c_S||^2"
    needs: ClassVar[frozenset[str]] = frozenset({"image_PJE", "target_PJE", "target_known_PJ"})

    def __call__(self, outputs: Outputs) -> Float[Tensor, ""]:
        image_PJE, target_PJE = outputs.image_PJE, outputs.target_PJE
        assert image_PJE is not None and target_PJE is not None and outputs.target_known_PJ is not None
        known_PJ = outputs.target_known_PJ.float()
        error = ((image_PJE - target_PJE).square().sum(-1) * known_PJ).sum()
        return error / (target_PJE.square().sum(-1) * known_PJ).sum().clamp(min=1e-6)
