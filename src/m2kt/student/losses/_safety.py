"""L_safety (Eq. 17-18): the reader keeps off flagged concepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from m2kt.student._batching import Batch
from m2kt.student.cal import ReaderOutputs
from m2kt.student.losses._base import Outputs


class SafetyLoss:
    """sum_k Penalty(c_k) w_k over flagged concepts, w_k being what the reader reaches for before the filter.

    Flagged concepts are also filtered: their weight is multiplied by zero in every pass and rehearsal never
    uses their rows, so this term only pushes the reader off what remains of them.
    """

    name: ClassVar[str] = "safety"
    equation: ClassVar[str] = "L_safety = mean over positions of sum_k Penalty(c_k) w_k"
    needs: ClassVar[frozenset[str]] = frozenset({"readers"})

    def __call__(self, batch: Batch, outputs: Outputs) -> Tensor:
        config = outputs.config
        penalties = config.penalties or [1.0] * len(config.flagged)
        found = [reach(reader, config.flagged, penalties).mean() for reader in outputs.readers]
        return torch.stack(found).sum() if found else torch.zeros((), device=batch.token_BT.device)


def reach(reader: ReaderOutputs, flagged: Sequence[int], penalties: Sequence[float]) -> Tensor:
    """sum_k Penalty(c_k) w_k over the flagged concepts at each position, (B, T); zeros where none is flagged."""
    assert reader.usage_BTK is not None
    flagged_BTF = reader.usage_BTK[..., list(flagged)]
    return flagged_BTF @ flagged_BTF.new_tensor(list(penalties))
