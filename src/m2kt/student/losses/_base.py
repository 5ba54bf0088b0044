"""What all loss terms share: the facts of one micro-batch, and the furniture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from torch import Tensor

from m2kt.student._batching import Batch
from m2kt.student.cal import CALConfig, ReaderOutputs


@dataclass
class Outputs:
    """What a rehearsal pass leaves for the losses. A term declares which of these it needs."""

    config: CALConfig
    readers: list[ReaderOutputs] = field(default_factory=list)
    logits_NV: Tensor | None = None  # at the supervised positions, in reading order
    labels_N: Tensor | None = None
    image_PJE: Tensor | None = None  # phi of the pool, in the stream's standard units
    own_PJE: Tensor | None = None  # the student's own states c^S for the same symbols
    own_known_PJ: Tensor | None = None  # where c^S is known


class Loss(Protocol):
    """One term of the composite loss."""

    name: ClassVar[str]
    equation: ClassVar[str]
    needs: ClassVar[frozenset[str]]

    def __call__(self, batch: Batch, outputs: Outputs) -> Tensor: ...
