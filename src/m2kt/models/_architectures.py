"""Model families that transformers does not have, from other distributions."""

from __future__ import annotations

from functools import cache

from m2kt._plugins import ARCHITECTURES, plugins


@cache
def register_architectures() -> None:
    """Import every module of the entry point group ``m2kt.architectures``, once; each registers its family."""
    for entry in plugins(ARCHITECTURES).values():
        entry.load()
