"""Probe specs of candidates, and how often a model writes exactly the steps that were wanted."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from benchmarks.untuned.skills import Skill
from m2kt.models import LoadedModel
from m2kt.probes import Chat, Example, ProbeSpec, Prompt, Slot
from m2kt.teacher import ExtractionConfig
from m2kt.teacher._teacher import Teacher

ANSWER = "Answer: ?([^\\n]+)"
NEW_TOKENS = 96


@dataclass(frozen=True)
class Row:
    """What a model wrote to the prompts of one candidate."""

    skill: str
    form: str
    asked: int
    exact: int
    """Answers with all steps as wanted."""
    last: int
    """Answers whose last line is as wanted."""
    forms: int
    """Different forms of the answers, values masked; as many as there are sizes where a program can be found."""
    wrong: list[tuple[str, str]]


def values_of(prompt: Prompt) -> list[str]:
    """The values in a prompt, in order."""
    return [unit.symbol for unit in prompt.units if unit.symbol is not None]


def spec_of(skill: Skill, shown: int) -> ProbeSpec:
    """A candidate as a probe spec: with examples, or told in words where ``shown`` is 0.

    Every second example draws from two values, so that repeated ones are shown too: without them a model leaves
    repetitions out.
    """
    spec = ProbeSpec(
        name=skill.name,
        slots={name: Slot(values=list(values)) for name, values in skill.slots.items()},
        templates=list(skill.templates),
        held_out=[skill.longer],
        stop=None,
        chat=Chat(system=None if shown else skill.told),
        max_new_tokens=NEW_TOKENS,
    )
    pools = [spec.sample("probing", 90, seed=5, skewed=skewed) for skewed in (False, True)]
    examples: list[Prompt] = []
    for number, size in enumerate(islice(cycle((0, 1, 2, 2, 1, 0, 2, 1, 2, 1, 2, 0)), shown)):
        fitting = (p for p in pools[number % 2] if p.template == size % spec.n_templates and p not in examples)
        examples += islice(fitting, 1)
    written = [Example(question=p.text, answer=skill.written(values_of(p))) for p in examples]
    final = ANSWER if "Answer: " in skill.written(values_of(pools[0][0])) else None
    return spec.model_copy(update={"examples": written, "answer": final})


def asked(loaded: LoadedModel, skill: Skill, shown: int, n: int, cache: Path) -> Row:
    """Ask ``n`` evaluation prompts; answers are kept in a file, so that nothing is asked twice."""
    spec = spec_of(skill, shown)
    prompts = spec.sample("evaluation", n, seed=ExtractionConfig().seed)
    known: dict[str, str] = json.loads(cache.read_text(encoding="utf-8")) if cache.is_file() else {}
    shown_as = json.dumps([spec.shown, spec.chat and spec.chat.system])
    new = [p for p in prompts if shown_as + p.text not in known]
    for prompt, completion in zip(new, Teacher(loaded, spec).complete(new, ""), strict=True):
        known[shown_as + prompt.text] = spec.completion_text(completion.text)
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(json.dumps(known, ensure_ascii=False), encoding="utf-8")
    answers = [known[shown_as + p.text].strip() for p in prompts]
    wanted = [skill.written(values_of(p)) for p in prompts]
    pairs = list(zip(prompts, answers, wanted, strict=True))
    return Row(
        skill.name,
        f"{len(spec.examples)} shown" if shown else "told",
        len(prompts),
        sum(answer == right for _, answer, right in pairs),
        sum(answer.splitlines()[-1:] == right.splitlines()[-1:] for _, answer, right in pairs),
        len(Counter(_masked(answer, spec.values) for answer in answers)),
        [(prompt.text, answer) for prompt, answer, right in pairs if answer != right],
    )


def _masked(text: str, values: Sequence[str]) -> str:
    """A text without its words, numbers and values: what is left is its form."""
    return re.sub("|".join([*map(re.escape, sorted(values, key=len, reverse=True)), r"\w+"]), "#", text)
