"""Does the skill hold where a question stands in other text? Each of a list of surroundings, measured.

What the skill needs around a question is measured, not assumed: a reader that learnt absolute places answers in the
right form, and wrongly. Where other text makes another question of it, the reader has to be silent: half-right is
worse than nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from pydantic import BaseModel, Field

from m2kt.auditor._answers import answer_budget, student_ends
from m2kt.auditor._traces import cal_config
from m2kt.auditor._ways import AS_EVALUATED, Example, Expected, Way, every_way
from m2kt.models import LoadedModel, context_length, generate_greedy, next_token_logits, pad_batch
from m2kt.probes import ProbeSpec, Prompt, Truth

PROMPTS = 16
_LONG = 256  # tokens; longer texts are asked a few at a time
_ROWS, _LONG_ROWS = 64, 4


class Surrounding(BaseModel):
    """Answers to prompts in one surrounding."""

    name: str = Field(description="What stands around the prompt, or what became of it.")
    expected: Expected = Field(
        default="right", description="What the skill should be: right, or silent where this is no question of it."
    )
    accuracy: float = Field(description="Share of right answers.")
    wrong: int = Field(default=0, description="Answers that the adapter changed and that are not right.")
    silent: int = Field(
        default=0,
        description="Answers that are not right, where the adapter changes no bit of what the student says next.",
    )
    n: int = Field(description="Prompts judged.")

    @property
    def holds(self) -> bool:
        """Whether no answer is other than expected; a right answer is never less than silence."""
        return self.wrong == 0 and (self.expected == "silent" or self.silent == 0)


@dataclass(frozen=True)
class _Asked:
    """A prompt in one surrounding."""

    way: Way
    prompt: Prompt
    ids: list[int]


def measure_surroundings(
    loaded: LoadedModel,
    spec: ProbeSpec,
    prompts: Sequence[Prompt],
    truth: Truth,
    *,
    examples: Sequence[Example] = (),
    most: int = PROMPTS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Surrounding]:
    """Ask prompts in each surrounding; those that the truth cannot judge, or the context cannot hold, are left out.

    Args:
        loaded: a student with its adapter.
        examples: answered questions of the packet, to put before the question.
        most: prompts in each surrounding; fewer where they stand far behind.
    """
    chosen = [prompt for prompt in prompts if truth.judge(prompt.text, truth.expected(prompt.text)) is not None]
    ways = list(every_way(loaded, spec, examples)) if chosen else []
    room = context_length(loaded.model) - answer_budget(loaded, spec)
    asked = [one for way in ways for one in islice(_asked(way, chosen, room), min(most, way.most or most))]
    # a student that is left alone rarely stops: where it should be, that is seen first, and costs one token
    quiet = _silent(loaded, asked, [i for i, one in enumerate(asked) if one.way.expected == "silent"])
    right = _right(loaded, spec, truth, asked, [i for i in range(len(asked)) if i not in quiet], progress)
    quiet |= _silent(
        loaded, asked, [i for i, one in enumerate(asked) if i not in right and one.way.expected == "right"]
    )
    rows: dict[str, list[str]] = {}
    for i, one in enumerate(asked):
        rows.setdefault(one.way.name, []).append("right" if i in right else "silent" if i in quiet else "wrong")
    return [_row(way, rows[way.name]) for way in ways if way.name in rows]


def _asked(way: Way, prompts: Sequence[Prompt], room: int) -> Iterator[_Asked]:
    """Prompts in a surrounding, if they differ in it and fit."""
    for prompt in prompts:
        ids = way.encode(prompt)
        if ids is not None and (len(ids) <= room or way.name == AS_EVALUATED):
            yield _Asked(way, prompt, ids)


def _row(way: Way, outcomes: Sequence[str]) -> Surrounding:
    n, wrong, silent = len(outcomes), outcomes.count("wrong"), outcomes.count("silent")
    accuracy = (n - wrong - silent) / n
    return Surrounding(name=way.name, expected=way.expected, accuracy=accuracy, wrong=wrong, silent=silent, n=n)


def _right(
    loaded: LoadedModel,
    spec: ProbeSpec,
    truth: Truth,
    asked: Sequence[_Asked],
    chosen: Sequence[int],
    progress: Callable[[int, int], None] | None,
) -> set[int]:
    """Those of the chosen ones whose answer is right."""
    budget, ends = answer_budget(loaded, spec), student_ends(loaded, spec)
    together = [i for i in chosen if asked[i].way.together]
    alone = [i for i in chosen if not asked[i].way.together]
    short, long = ([i for i in alone if (len(asked[i].ids) > _LONG) is is_long] for is_long in (False, True))
    right, done = set(), 0
    for group, rows in ((short, _ROWS), (together, max(1, len(together))), (long, _LONG_ROWS)):
        answers = generate_greedy(
            loaded,
            [asked[i].ids for i in group],
            budget,
            ends,
            batch_size=rows,
            progress=None if progress is None else partial(_report, progress, done, len(chosen)),
        )
        for i, answer in zip(group, answers, strict=True):
            if truth.judge(asked[i].prompt.text, spec.read_answer(answer.text)):
                right.add(i)
        done += len(group)
    return right


def _report(progress: Callable[[int, int], None], before: int, total: int, done: int, _: int) -> None:
    progress(before + done, total)


@torch.no_grad()
def _silent(loaded: LoadedModel, asked: Sequence[_Asked], chosen: Sequence[int]) -> set[int]:
    """Those of the chosen ones behind which the adapter leaves the next token's logits as they are, bit for bit."""
    if cal_config(loaded.model) is None:
        return set(chosen)
    silent = set()
    for i in chosen:
        ids_BT, mask_BT = pad_batch([asked[i].ids], loaded.pad_id, device=loaded.device)
        last_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
        last_BT[:, -1] = True
        with_NV = next_token_logits(loaded.model, ids_BT, mask_BT, last_BT)
        with loaded.peft_model.disable_adapter():
            if torch.equal(with_NV, next_token_logits(loaded.model, ids_BT, mask_BT, last_BT)):
                silent.add(i)
    return silent
