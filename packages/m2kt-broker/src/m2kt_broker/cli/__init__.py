"""The verbs ``m2kt broker`` and ``m2kt serve``. m2kt finds them through the entry point group ``m2kt.cli``."""

from ._broker import app as broker
from ._serve import command as serve

__all__ = ["broker", "serve"]
