"""Templates longer than those of a spec: what the largest has more than the next smaller one, once more and more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from m2kt.probes._spec import ProbeSpec

_PART = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[^\W\d_]+|\d+|\s|.", re.DOTALL)
MAX_PARTS = 4_000


def longer_specs(spec: ProbeSpec) -> list[ProbeSpec]:
    """One spec for each of :func:`longer_templates`, with the same slots: what can be asked at sizes not probed."""
    texts = longer_templates([spec.template_text(t) for t in range(spec.n_templates)])
    return [ProbeSpec(name=spec.name, slots=spec.slots, templates=[text], stop=spec.stop) for text in texts]


def longer_templates(texts: Sequence[str], factor: float = 4.0) -> list[str]:
    """Templates of growing size, up to ``factor`` times the largest; none where sizes do not grow by repetition.

    A template is the next one if the last of ``texts`` has pieces more than the one before it and these stand in the
    new one once more. The first two sizes are followed by about twice, and about ``factor`` times, the largest.
    """
    parts = sorted((_PART.findall(text) for text in texts), key=len)
    sizes = [p for i, p in enumerate(parts) if i == 0 or len(p) != len(parts[i - 1])]
    if len(sizes) < 2:
        return []
    before, last = sizes[-2], sizes[-1]
    if len(sizes) > 2 and len(last) - len(before) == len(before) - len(sizes[-3]) and _next(sizes[-3], before) != last:
        return []
    grown: list[list[str]] = []
    while len(last) < MAX_PARTS and (not grown or len(last) < factor * len(sizes[-1])):
        following = _next(before, last)
        if following is None:
            break
        before, last = last, following
        grown.append(last)
    if not grown:
        return []
    wanted = {0, min(1, len(grown) - 1)}
    for times in (2.0, factor):
        wanted.add(min(range(len(grown)), key=lambda i: abs(len(grown[i]) - times * len(sizes[-1]))))
    return ["".join(grown[i]) for i in sorted(wanted)]


def _next(shorter: list[str], longer: list[str]) -> list[str] | None:
    """``longer`` with the pieces that it has more than ``shorter`` doubled; None if it has not only more pieces."""
    following: list[str] = []
    for what, _, _, start, end in SequenceMatcher(None, shorter, longer, autojunk=False).get_opcodes():
        if what not in ("equal", "insert"):
            return None
        following += longer[start:end] * (2 if what == "insert" else 1)
    return following
