"""What an induction asks of a teacher: answers to prompts, and what it would write after an intervention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from m2kt.probes import Prompt


@dataclass(frozen=True)
class Answer:
    """A prompt with the teacher's greedy completion, without the stop string."""

    prompt: Prompt
    completion: str
    token_ends: tuple[int, ...]
    """Character offsets within the completion at which tokens end."""


@dataclass(frozen=True)
class Forced:
    """An answer as it stands, with one unit replaced."""

    units: tuple[str, ...]
    """Texts of all units, prompt first, stop last, the new one in its place."""
    n_prompt: int
    replaced: int
    """Index of the unit that was replaced."""


class Oracle(Protocol):
    """A teacher: a language model, or in benchmarks a plain function."""

    passes: int
    """Sequences it was given."""

    def answer(self, prompts: Sequence[Prompt], stage: str = "") -> tuple[list[Answer], int]:
        """Greedy answers, and the number of prompts whose answer lacks the stop string (these are left out)."""

    def intended(self, forced: Sequence[Forced], stage: str = "") -> list[list[str | None]]:
        """Per text and answer unit: what the teacher would itself write there, given all units before.

        None where that is not known: before the replaced unit, or behind the place where its own writing would have
        taken another course.
        """
