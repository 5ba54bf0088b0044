"""The composite loss (Eq. 12): alpha L_geo + beta L_struct + gamma L_reason + lambda L_safety, and an off-domain term.

Each term is a class with ``name``, ``equation``, ``needs``, ``weight`` and ``__call__(outputs)``. A weight of zero
switches it off, and outputs that no remaining term needs are not computed.
"""

from __future__ import annotations

from collections.abc import Sequence

from m2kt.settings import LossSettings
from m2kt.student.losses._base import Loss as Loss
from m2kt.student.losses._base import Outputs as Outputs
from m2kt.student.losses._geo import GeoLoss as GeoLoss
from m2kt.student.losses._off_domain import OffDomainLoss as OffDomainLoss
from m2kt.student.losses._reason import ReasonLoss as ReasonLoss
from m2kt.student.losses._safety import SafetyLoss as SafetyLoss
from m2kt.student.losses._safety import penalised_weight as penalised_weight
from m2kt.student.losses._struct import HALF_LOG_ATTENTION as HALF_LOG_ATTENTION
from m2kt.student.losses._struct import StructLoss as StructLoss
from m2kt.student.losses._struct import edge_log_attention as edge_log_attention
from m2kt.student.losses._struct import reader_accuracy as reader_accuracy

TERMS: tuple[type[Loss], ...] = (GeoLoss, StructLoss, ReasonLoss, SafetyLoss, OffDomainLoss)


def composite(settings: LossSettings) -> list[Loss]:
    """The terms whose weight is not zero."""
    return [term for term in (term_class(settings) for term_class in TERMS) if term.weight > 0]


def needed_outputs(terms: Sequence[Loss]) -> frozenset[str]:
    """All fields of :class:`Outputs` that these terms need."""
    return frozenset[str]().union(*(term.needs for term in terms))
