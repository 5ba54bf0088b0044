"""Distributions beside ``m2kt``: found through entry points, and named in the error where one is not installed."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from m2kt.errors import SpecError

ARCHITECTURES = "m2kt.architectures"
"""Modules that make a family known to transformers when they are imported."""
CLI = "m2kt.cli"
"""Typer applications and commands, by verb."""
CONTENT = "m2kt.content"
"""``auditor``: a callable (config, say) that returns a :class:`m2kt.audit.ContentAuditor`."""


def plugins(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group by name, in the order of their names; nothing is imported."""
    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda e: e.name)}


def missing(what: str, distribution: str) -> SpecError:
    """The error for a part that another distribution brings."""
    return SpecError(f"{what} needs {distribution}, which is not installed: pip install {distribution}")
