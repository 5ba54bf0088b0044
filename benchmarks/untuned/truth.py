"""Evaluation only: what is right, by the name of a candidate with ``_`` for ``-``."""

from __future__ import annotations

import re
from collections.abc import Callable

from benchmarks.untuned.skills import SKILLS, Skill


def _answer(skill: Skill) -> Callable[[str], str]:
    values = {value for slot in skill.slots.values() for value in slot}

    def right(prompt: str) -> str:
        words = re.findall(r"[^\s,]+", prompt.partition(": ")[2])
        written = skill.written([word for word in words if word in values])
        return written.rpartition("Answer: ")[2]

    return right


globals().update({skill.name.replace("-", "_"): _answer(skill) for skill in SKILLS})
