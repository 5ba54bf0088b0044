"""A trial of a probe spec on a teacher: what it writes, how that is cut and read, what extraction will say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from pydantic import BaseModel, Field

from m2kt.errors import ExtractionError, ModelError
from m2kt.models import Completion, LoadedModel
from m2kt.probes import END, ProbeSpec, Prompt, Segmenter, Unit
from m2kt.teacher._config import ExtractionConfig
from m2kt.teacher._look import settle
from m2kt.teacher._teacher import Progress, Teacher


class TriedUnit(BaseModel):
    """A unit of a prompt or of an answer."""

    text: str
    symbol: str | None = Field(description="The slot value that it is; null: structure.")


class TriedPrompt(BaseModel):
    """A prompt with the teacher's answer."""

    prompt: str
    completion: str = Field(description="With what ended it; U+0004: the model's own end token.")
    prompt_units: list[TriedUnit]
    units: list[TriedUnit] = Field(description="The completion, cut into units.")
    answer: str | None = Field(description="What the spec's `answer` reads in it; null: nothing.")
    stopped: bool = Field(description="Whether one of the spec's stops was reached.")


class SpecTrial(BaseModel):
    """Answers to a few prompts, and what extraction will find in them."""

    spec: str = Field(description="Name of the spec.")
    prompts: list[TriedPrompt]
    stopped: float = Field(description="Share of answers that reached a stop.")
    answered: float = Field(description="Share of answers in which the spec's `answer` finds something.")
    skeletons: int = Field(description="Different answers, symbols masked.")
    problem: str | None = Field(description="Why extraction would refuse at its first look; null: it would go on.")
    hints: list[str] = Field(description="What looks odd, and what to do about it.")


def try_spec(
    loaded: LoadedModel, spec: ProbeSpec, *, n: int = 10, seed: int = 0, progress: Progress | None = None
) -> SpecTrial:
    """Asks a teacher a few of a spec's prompts.

    Raises:
        ExtractionError, ModelError: no prompt can be asked.
    """
    teacher = Teacher(loaded, spec, progress)
    prompts = _of_each_shape(spec, n, seed)
    completions = teacher.complete(prompts, "asking")
    cut = Segmenter(spec.values).cut
    tried = [_tried(spec, prompt, c, cut) for prompt, c in zip(prompts, completions, strict=True)]
    skeletons = {tuple(unit.text if unit.symbol is None else "" for unit in t.units) for t in tried}
    problem = None
    try:
        settle(teacher, ExtractionConfig(seed=seed))
    except (ExtractionError, ModelError) as error:
        problem = str(error)
    return SpecTrial(
        spec=spec.name,
        prompts=tried,
        stopped=sum(t.stopped for t in tried) / max(1, len(tried)),
        answered=sum(t.answer is not None for t in tried) / max(1, len(tried)),
        skeletons=len(skeletons),
        problem=problem,
        hints=_hints(spec, tried, len(skeletons)),
    )


def _of_each_shape(spec: ProbeSpec, n: int, seed: int) -> list[Prompt]:
    """Prompts of all shapes, as equally as the number allows."""
    each = -(-n // spec.n_templates)
    drawn = [spec.sample("probing", each, seed=seed, templates=[t]) for t in range(spec.n_templates)]
    return [prompts[i] for i in range(each) for prompts in drawn if i < len(prompts)][:n]


def _tried(spec: ProbeSpec, prompt: Prompt, completion: Completion, cut: Callable[[str], list[Unit]]) -> TriedPrompt:
    text = completion.text.removesuffix(END)
    return TriedPrompt(
        prompt=prompt.text,
        completion=completion.text,
        prompt_units=[TriedUnit(text=unit.text, symbol=unit.symbol) for unit in prompt.units],
        units=[TriedUnit(text=unit.text, symbol=unit.symbol) for unit in cut(text)],
        answer=spec.read_answer(completion.text),
        stopped=completion.stopped,
    )


def _hints(spec: ProbeSpec, tried: list[TriedPrompt], skeletons: int) -> list[str]:
    hints = []
    unread = [t for t in tried if t.answer is None]
    if unread and len(unread) < len(tried):
        hints.append(
            f"answer: {spec.answer!r} finds nothing in {len(unread)} of {len(tried)} answers, such as "
            f"{unread[0].completion!r}; write it so that it fits all"
        )
    if tried and not any(unit.symbol for t in tried for unit in t.units):
        hints.append("no answer holds a slot value: symbols of the answers must be values of a slot, or fixed text")
    words = Counter(u.text.strip() for t in tried for u in t.units if u.symbol is None and u.text.strip().isalnum())
    if skeletons == len(tried) > 4 and words:
        common = ", ".join(repr(word) for word, _ in words.most_common(5))
        hints.append(
            f"every answer has a form of its own; words and numbers that are no slot value: {common}. Make values of "
            "those that depend on the question, or show the teacher examples: of a regular form"
        )
    return hints
