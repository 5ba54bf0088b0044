"""What loss terms share: the outputs of one forward pass, and the base class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from m2kt._shapes import Float, Int, Shaped
from m2kt.settings import LossSettings
from m2kt.student._batching import Batch
from m2kt.student.cal import CALConfig, ReaderOutputs


@dataclass
class Outputs:
    """Outputs of one forward pass. A field that the pass did not compute is empty or None.

    Letters: N answer tokens, V vocabulary, P prototype samples, J token index within a unit, E student width.
    """

    config: CALConfig
    batch: Batch | None = None
    readers: list[ReaderOutputs] = field(default_factory=list)
    logits_NV: Float[Tensor, "N V"] | None = None
    labels_N: Int[Tensor, " N"] | None = None
    image_PJE: Float[Tensor, "P J E"] | None = None
    """phi of the prototype samples, in units of the stream scale."""
    target_PJE: Float[Tensor, "P J E"] | None = None
    """Student targets c^S of the same symbols."""
    target_known_PJ: Shaped[Tensor, "P J"] | None = None
    """1 where there is a target."""
    log_none: Float[Tensor, ""] | None = None
    """Mean log p(none) over off-domain lines."""
    divergence: Float[Tensor, ""] | None = None
    """KL to the frozen student over off-domain lines."""

    def has(self, names: frozenset[str]) -> bool:
        """Whether this pass computed all of these fields."""
        values = (getattr(self, name) for name in names)
        return all(value is not None and not (isinstance(value, list) and not value) for value in values)


class Loss(ABC):
    """One term of the composite loss. Its name is that of its weight in :class:`LossSettings`."""

    name: ClassVar[str]
    equation: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    """Fields of :class:`Outputs`; the term applies to passes that computed all of them."""

    def __init__(self, settings: LossSettings | None = None) -> None:
        self.settings = settings or LossSettings()

    @property
    def weight(self) -> float:
        """Its weight in the sum; 0 switches it off."""
        return float(getattr(self.settings, self.name))

    @abstractmethod
    def __call__(self, outputs: Outputs) -> Float[Tensor, ""]:
        """The unweighted term, a scalar."""
