"""Prompts that extraction has not seen."""

from __future__ import annotations

import random
from typing import Any

from m2kt.probes import ProbeSpec, Prompt, Split, Template

RANDOM, SKEWED, ALIKE = 40, 20, 10  # prompts of a template, by kind


class _Same(random.Random):
    """Chooses the value of one index for every hole: 000..0, all names alike."""

    def __init__(self, index: int) -> None:
        super().__init__(0)
        self._index = index

    def choice(self, seq: Any) -> Any:
        return seq[self._index % len(seq)]


def fresh_prompts(spec: ProbeSpec, seed: int, *, held_out: bool) -> list[Prompt]:
    """Evaluation prompts of each template: random ones, skewed ones, and those whose holes are all alike.

    A probed template with so few prompts that none is in the evaluation split has those of another split. A prompt of
    a held-out template is fresh in any case.
    """
    drawn: dict[str, Prompt] = {}
    for index in range(len(spec.held_out if held_out else spec.templates)):
        of_template: list[Prompt] = alike_prompts(spec, index, held_out=True) if held_out else []
        splits: tuple[Split, ...] = ("evaluation",) if held_out else ("evaluation", "rehearsal", "probing")
        for split in splits:
            for n, skewed in ((RANDOM, False), (SKEWED, True)):
                of_template += spec.sample(split, n, seed=seed, held_out=held_out, templates=[index], skewed=skewed)
            if not held_out:
                alike = alike_prompts(spec, index, held_out=False)
                of_template += [p for p in alike if spec.split_of(p.text) == split]
            if of_template:
                break
        drawn.update({p.text: p for p in of_template})
    return list(drawn.values())


def alike_prompts(spec: ProbeSpec, index: int, held_out: bool) -> list[Prompt]:
    """Prompts of a template in which all holes of a slot are filled alike: ``ALIKE`` at most, of spread values."""
    template = Template(spec.template_text(index, held_out), {name: slot.values for name, slot in spec.slots.items()})
    values = max(len(slot.values) for slot in spec.slots.values())
    chosen = range(values) if values <= ALIKE else [i * values // ALIKE for i in range(ALIKE)]
    filled = (template.fill(template.draw(_Same(i)), template=index, held_out=held_out) for i in chosen)
    return list({p.text: p for p in filled}.values())
