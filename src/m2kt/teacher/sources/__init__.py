"""Concept sources, by their names on the command line and in packets (``--concepts``).

``interrogation``, the default, intervenes on what steps read. The paper names the others as options; their modules are
imported only when one of them is chosen.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from m2kt.errors import ExtractionError

if TYPE_CHECKING:
    from m2kt.teacher.sources._base import ConceptSource as ConceptSource

_CLASSES = {
    "interrogation": ("_intervention", "Intervention"),
    "clustering": ("_clustering", "Clustering"),
    "gradient": ("_gradient", "Gradient"),
    "probe": ("_probe", "Probe"),
}
SOURCES = tuple(_CLASSES)


def concept_source(name: str) -> ConceptSource:
    """A new concept source.

    Raises:
        ExtractionError: no source has this name.
    """
    if name not in _CLASSES:
        raise ExtractionError(f"unknown concept source: expected one of {', '.join(SOURCES)}, got {name!r}")
    module, class_name = _CLASSES[name]
    return cast("ConceptSource", getattr(import_module(f"{__name__}.{module}"), class_name)())
