"""Concept sources, by the names of ``--concepts``. ``interrogation`` is the default; the paper names the others."""

from m2kt.teacher.sources._base import ConceptSource as ConceptSource
from m2kt.teacher.sources._clustering import Clustering
from m2kt.teacher.sources._gradient import Gradient
from m2kt.teacher.sources._interrogation import Interrogation
from m2kt.teacher.sources._probe import Probe

SOURCES: dict[str, type[Interrogation] | type[Clustering] | type[Gradient] | type[Probe]] = {
    s.name: s for s in (Interrogation, Clustering, Gradient, Probe)
}
