"""The default source: causal interventions for effects, mean states for vectors."""

from __future__ import annotations

from m2kt.teacher._corpus import Corpus
from m2kt.teacher._intervene import intervene
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.sources._base import EqualWeights


class Intervention(EqualWeights):
    """Replaces symbols by others of the pooled support and records which later steps change."""

    def measure_effects(self, teacher: Teacher, corpus: Corpus, *, seed: int) -> None:
        """See :func:`m2kt.teacher._intervene.intervene`."""
        intervene(teacher, corpus, seed=seed)
