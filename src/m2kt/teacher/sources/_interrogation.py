"""The default source: causal interrogation for candidates, mean states for vectors."""

from __future__ import annotations

from m2kt.teacher._ask import Teacher
from m2kt.teacher._interrogate import interrogate
from m2kt.teacher._pool import Pool
from m2kt.teacher.sources._base import Plain


class Interrogation(Plain):
    """Substitutes symbols on the pooled support and sees which later steps change."""

    name = "interrogation"

    def candidates(self, teacher: Teacher, pool: Pool, *, seed: int) -> None:
        """See :func:`m2kt.teacher._interrogate.interrogate`."""
        interrogate(teacher, pool, seed=seed)
