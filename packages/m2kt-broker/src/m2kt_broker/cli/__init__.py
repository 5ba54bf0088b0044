"""The verbs ``m2kt broker`` and ``m2kt serve``: they are found by m2kt through the entry points ``m2kt.cli``."""

from ._broker import app as broker
from ._serve import command as serve

__all__ = ["broker", "serve"]
