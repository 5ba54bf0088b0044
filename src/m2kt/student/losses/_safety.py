"""L_safety (Eq. 17-18): the reader gives no weight to flagged concepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from m2kt._shapes import Float
from m2kt.student.cal import ReaderOutputs
from m2kt.student.losses._base import Loss, Outputs


class SafetyLoss(Loss):
    """sum_k Penalty(c_k) w_k over flagged concepts, with the concept weights w_k before the filter.

    Flagged concepts are also filtered: their weight is multiplied by zero in every pass, and rehearsal does not use
    their rows. The term trains the reader away from what remains of them.
    """

    name: ClassVar[str] = "safety"
    equation: ClassVar[str] = "L_safety = mean over positions of sum_k Penalty(c_k) w_k"
    needs: ClassVar[frozenset[str]] = frozenset({"readers"})

    def __call__(self, outputs: Outputs) -> Float[Tensor, ""]:
        config = outputs.config
        penalties = config.penalties or [1.0] * len(config.flagged)
        return torch.stack(
            [penalised_weight(reader, config.flagged, penalties).mean() for reader in outputs.readers]
        ).sum()


def penalised_weight(reader: ReaderOutputs, flagged: Sequence[int], penalties: Sequence[float]) -> Float[Tensor, "B T"]:
    """sum_k Penalty(c_k) w_k over the flagged concepts at each position; zeros without flagged concepts."""
    if reader.concept_BT is not None:
        weight_BTF = (reader.concept_BT[..., None] == reader.concept_BT.new_tensor(list(flagged))).float()
        return weight_BTF @ weight_BTF.new_tensor(list(penalties))
    assert reader.usage_BTK is not None
    weight_BTF = reader.usage_BTK[..., list(flagged)]
    return weight_BTF @ weight_BTF.new_tensor(list(penalties))
