"""The composite loss (Eq. 12): alpha L_geo + beta L_struct + gamma L_reason + lambda L_safety, one term a file.

Every term is a class with ``name``, ``equation``, ``needs`` and ``__call__(batch, outputs)``. A weight of
zero switches it off, and what no remaining term needs is not computed.
"""

from __future__ import annotations

from m2kt.settings import LossSettings
from m2kt.student.losses._base import Loss as Loss
from m2kt.student.losses._base import Outputs as Outputs
from m2kt.student.losses._geo import GeoLoss as GeoLoss
from m2kt.student.losses._reason import ReasonLoss as ReasonLoss
from m2kt.student.losses._safety import SafetyLoss as SafetyLoss
from m2kt.student.losses._safety import reach as reach
from m2kt.student.losses._struct import MOSTLY as MOSTLY
from m2kt.student.losses._struct import StructLoss as StructLoss
from m2kt.student.losses._struct import edge_log_p as edge_log_p
from m2kt.student.losses._struct import pointing as pointing

TERMS: tuple[type[Loss], ...] = (GeoLoss, StructLoss, ReasonLoss, SafetyLoss)


def composite(settings: LossSettings) -> list[tuple[float, Loss]]:
    """The terms in use with their weights."""
    weighted = [(float(getattr(settings, term.name)), term) for term in TERMS]
    return [(weight, term()) for weight, term in weighted if weight > 0]


def needs(terms: list[tuple[float, Loss]]) -> frozenset[str]:
    """Everything the terms in use need."""
    return frozenset().union(*(term.needs for _, term in terms))
