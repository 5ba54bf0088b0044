"""Parts of m2kt in other distributions: found through entry points, named in the error where one is not installed."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from m2kt.errors import SpecError

ARCHITECTURES = "m2kt.architectures"
"""Modules that register a family with transformers when they are imported."""
CLI = "m2kt.cli"
"""Typer applications and commands, by verb."""
CONTENT = "m2kt.content"
"""``auditor``: a callable (config, say) that returns a :class:`m2kt.auditor.ContentAuditor`."""


def plugins(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group, sorted by name; nothing is imported."""
    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda e: e.name)}


def missing(feature: str, package: str, requirement: str | None = None) -> SpecError:
    """The error for a feature whose package is not installed.

    Args:
        requirement: what to install, if that is not the package.
    """
    return SpecError(f"{feature} needs {package}, which is not installed: pip install '{requirement or package}'")
