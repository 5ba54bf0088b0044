"""Is an explanation right? The concept that it names for a token must be the one on which the token depends.

Two interventions on the reader, the text in front of each token left as it is. *Removal*: the concept is not injected.
Where the student would write the same without any adapter, that shows nothing, and it is counted apart. *Exchange*:
another concept of the same rule, which writes another symbol, is injected in its place; that shows in every case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

from m2kt.auditor._answers import answer_budget, answer_chat, student_ends
from m2kt.models import LoadedModel, encode_prompt
from m2kt.probes import ProbeSpec, Prompt
from m2kt.student import ExplainedAnswer, encode_question, explain_answer
from m2kt.student.cal import cal_model

Kind = Literal["concept", "copy"]


class Causes(BaseModel):
    """How many units that concepts (or copies) wrote depend on what the explanation names, and on nothing else."""

    answers: int = Field(description="Answers that were explained.")
    units: int = Field(description="Units of the answers that the explanation names a concept or a copied symbol for.")
    exchanged: int = Field(description="Of these, those with another content to exchange for the named one.")
    exchange_changes: int = Field(description="Of these, those that change if the named content is exchanged.")
    exchange_alone: int = Field(description="Of these, those that change if no other content of the answer is.")
    base_says_so: int = Field(description="Units that the student without its adapter would write as well.")
    removal_changes: int = Field(description="Of the other units, those that change if the named content is removed.")
    removal_alone: int = Field(description="Of these, those that change if no other content of the answer is.")

    @property
    def exchange_share(self) -> float | None:
        """Share of exchanged units for which the named content is the one that changes them."""
        return self.exchange_alone / self.exchanged if self.exchanged else None

    @property
    def removal_share(self) -> float | None:
        """The same by removal, of the units that the student would not write by itself."""
        units = self.units - self.base_says_so
        return self.removal_alone / units if units else None


@dataclass(frozen=True)
class _Unit:
    """Tokens of one unit: their places in the answer, and the content that the explanation names."""

    places: tuple[int, ...]
    content: int


def measure_causes(
    loaded: LoadedModel,
    spec: ProbeSpec,
    prompts: Sequence[Prompt],
    *,
    kinds: Sequence[Kind] = ("concept",),
    progress: Callable[[int, int], None] | None = None,
) -> list[Causes]:
    """Explains the answers to some prompts and intervenes on all that the explanations name.

    Args:
        loaded: a student with its adapter.
        kinds: of causes that are counted, one result for each.
    """
    counts = [dict.fromkeys(Causes.model_fields, 0) for _ in kinds]
    for n, prompt in enumerate(prompts):
        answer = explain_answer(
            loaded,
            question_ids(loaded, spec, prompt),
            max_new_tokens=answer_budget(loaded, spec, [prompt]),
            ends=student_ends(loaded, spec),
        )
        for kind, count in zip(kinds, counts, strict=True):
            count["answers"] += 1
            for unit in _units(answer, kind):
                for name, met in _marks(answer, unit).items():
                    count[name] += met
        if progress is not None:
            progress(n + 1, len(prompts))
    return [Causes(**count) for count in counts]


def question_ids(loaded: LoadedModel, spec: ProbeSpec, prompt: Prompt | str) -> list[int]:
    """Tokens of a prompt, as :func:`ask` puts it to a student with an adapter."""
    chat = answer_chat(loaded, spec)
    if cal_model(loaded.model).reader().config.reader == "executed":
        return encode_prompt(loaded.tokenizer, prompt if isinstance(prompt, str) else prompt.text, chat)
    return encode_question(loaded.tokenizer, prompt, spec.values, chat)


def _units(answer: ExplainedAnswer, kind: Kind) -> list[_Unit]:
    places: dict[tuple[int | None, int], list[int]] = {}
    for i, token in enumerate(answer.tokens):
        cause = token.cause
        if cause.kind == kind and cause.content is not None:
            places.setdefault((cause.unit, cause.content), []).append(i)
    return [_Unit(tuple(listed), content) for (_, content), listed in places.items()]


def _marks(answer: ExplainedAnswer, unit: _Unit) -> dict[str, bool]:
    """What is met by a unit, by name of the count."""

    def changes(next_tokens: dict[int, list[int]], content: int) -> bool:
        return any(next_tokens[content][i] != answer.tokens[i].id for i in unit.places)

    by_itself = all(answer.tokens[i].base_text == answer.tokens[i].text for i in unit.places)
    marks = {"units": True, "base_says_so": by_itself}
    for name, next_tokens in (("removal", answer.next_without), ("exchange", answer.next_instead)):
        if unit.content not in next_tokens or (name == "removal" and by_itself):
            continue
        mine = changes(next_tokens, unit.content)
        others = any(changes(next_tokens, content) for content in next_tokens if content != unit.content)
        marks |= {f"{name}_changes": mine, f"{name}_alone": mine and not others}
        marks |= {"exchanged": True} if name == "exchange" else {}
    return marks
