"""Other words for the same question, and texts around it: the parts of a probe spec that change no prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pydantic import Field, field_validator

from m2kt._end import END
from m2kt.errors import SpecError
from m2kt.probes._fields import Strict
from m2kt.probes._template import Hole, Prompt, Template

PROMPT = "{prompt}"  # where the question stands in a surrounding
MAX_TEXT = 512  # characters
MARKS = "?.:!="
"""A phrasing ends with one of these, for they tell a reader where to look back."""
SURROUNDINGS = (
    "Please answer: {prompt}",
    "Here is a question for you. {prompt}",
    "1. {prompt}",
    '"{prompt}"',
    "Q: {prompt}",
    "Q: {prompt}\nA:",
    "Question: {prompt}\nAnswer:",
)
"""Texts in which every skill's question may stand."""
_HELD_OUT_EVERY = 4


class Wordings(Strict):
    """The fields of a probe spec that change no prompt."""

    surroundings: list[str] = Field(
        default_factory=list,
        max_length=64,
        description="Texts in which the question may stand, written {prompt}, beside those that every verdict tries.",
    )
    phrasings: list[str] = Field(
        default_factory=list,
        max_length=64,
        description="Other ways to put the question: templates with the holes of a template, by name or in order.",
    )
    held_out_phrasings: list[str] = Field(
        default_factory=list,
        max_length=64,
        description="Phrasings that no student is fitted to, for evaluation; none: a quarter of `phrasings`.",
    )

    @field_validator("surroundings")
    @classmethod
    def _hold_the_question(cls, surroundings: list[str]) -> list[str]:
        for text in surroundings:
            if text.count(PROMPT) != 1 or text == PROMPT or END in text or len(text) > MAX_TEXT:
                raise ValueError(
                    f"expected a text of at most {MAX_TEXT} characters with {PROMPT} once, where the question stands, "
                    f'got {text!r}; write what stands around it, such as "Q: {PROMPT}\\nA:"'
                )
        return list(dict.fromkeys(surroundings))

    @field_validator("phrasings", "held_out_phrasings")
    @classmethod
    def _end_with_a_mark(cls, phrasings: list[str]) -> list[str]:
        for text in phrasings:
            if text[-1:] not in MARKS or not text or "\n" in text or len(text) > MAX_TEXT:
                raise ValueError(
                    f"expected one line of at most {MAX_TEXT} characters that ends with one of {' '.join(MARKS)}, got "
                    f'{text!r}; write how the question is put, such as "What is {{d}} plus {{d}}?"'
                )
        return list(dict.fromkeys(phrasings))

    @property
    def afters(self) -> list[str]:
        """What may stand between a question and its answer: behind the prompt in surroundings, the usual ones first."""
        behind = [text.partition(PROMPT)[2] for text in (*SURROUNDINGS, *self.surroundings)]
        return [after for after in dict.fromkeys(behind) if after]

    @cached_property
    def listed_phrasings(self) -> list[str]:
        """Those that students are fitted to."""
        return [text for text in self.phrasings if text not in self.unlisted_phrasings]

    @cached_property
    def unlisted_phrasings(self) -> list[str]:
        """Those that are for evaluation alone."""
        if self.held_out_phrasings:
            return self.held_out_phrasings
        drawn = sorted(self.phrasings, key=lambda text: hashlib.sha256(text.encode()).digest())
        return drawn[: len(drawn) // _HELD_OUT_EVERY]


@dataclass(frozen=True)
class Shape:
    """A template as its texts around groups of holes; holes side by side are one group, of any length."""

    texts: tuple[str, ...]
    """One more than there are groups."""
    groups: tuple[tuple[Hole, ...], ...]
    starts: tuple[int, ...]
    """Index of each group's first unit in a prompt."""

    @classmethod
    def of(cls, template: Template) -> Shape:
        """The shape of a template."""
        texts, groups, starts = [""], list[list[Hole]](), list[int]()
        for i, part in enumerate(template.parts):
            if isinstance(part, str):
                texts[-1] += part
            elif groups and not part.lead and not texts[-1]:
                groups[-1].append(part)
            else:
                texts[-1] += part.lead
                groups.append([part])
                starts.append(i)
                texts.append("")
        return cls(tuple(texts), tuple(map(tuple, groups)), tuple(starts))

    @property
    def holes(self) -> list[tuple[tuple[str, str | None], ...]]:
        """Slots and names of each group, a slot named once however long the group is."""
        return [tuple(dict.fromkeys((hole.slot, hole.name) for hole in group)) for group in self.groups]

    def values(self, prompt: Prompt) -> list[str]:
        """What stands in the groups of one of the template's prompts."""
        counts = [len(group) for group in self.groups]
        return [
            "".join(unit.symbol or "" for unit in prompt.units[start : start + n])
            for start, n in zip(self.starts, counts, strict=True)
        ]

    def text(self, values: Sequence[str]) -> str:
        """The text with these values in the groups."""
        return self.texts[0] + "".join(v + t for v, t in zip(values, self.texts[1:], strict=True))


@dataclass(frozen=True)
class Phrasing:
    """Another way to put the questions of some templates."""

    shape: Shape
    order: tuple[int, ...]
    """By group of the template, the group of the phrasing that holds its value."""
    templates: tuple[Shape, ...]
    """The templates' shapes, all with as many groups."""

    def put(self, values: Sequence[str]) -> str:
        """The phrasing of a template's question, by its groups' values."""
        by_group = dict(zip(self.order, values, strict=True))
        return self.shape.text([by_group[i] for i in range(len(by_group))])


def read_phrasings(
    texts: Sequence[str], slots: Mapping[str, Sequence[str]], templates: Sequence[Template]
) -> list[Phrasing]:
    """Phrasings with the templates that they belong to.

    Raises SpecError where one has other holes than every template.
    """
    shapes = [Shape.of(template) for template in templates]
    phrasings = []
    for text in texts:
        shape = Shape.of(Template(text, slots))
        of = {i: order for i, known in enumerate(shapes) if (order := _order(shape, known)) is not None}
        if not of:
            raise SpecError(
                f"phrasing {text!r}: expected the holes of a template, by name or in order (such as those of "
                f"{templates[0].text!r}), got others; write as many groups of holes, with the same slots and names"
            )
        order = next(iter(of.values()))
        phrasings.append(Phrasing(shape, order, tuple(shapes[i] for i, o in of.items() if o == order)))
    return phrasings


def _order(phrasing: Shape, template: Shape) -> tuple[int, ...] | None:
    """By group of the template, the phrasing's group with its name; unnamed ones in order; None: they differ."""
    left = dict(enumerate(phrasing.holes))
    order = []
    for group in template.holes:
        found = next((i for i, holes in left.items() if holes == group), None)
        if found is None:
            return None
        order.append(found)
        del left[found]
    return tuple(order) if not left else None
