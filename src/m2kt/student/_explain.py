"""One answer of a student with its adapter, token by token: what wrote it, and what stands there without that.

Letters: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from m2kt._shapes import Float
from m2kt.models import Ends, LoadedModel, generate_greedy, logits_along, token_text
from m2kt.student._causes import Cause, CauseFinder, spans_of
from m2kt.student._generate import cut_after
from m2kt.student.cal import cal_model

ROWS = 16  # of a batch in which each row is without another content


@dataclass(frozen=True)
class ExplainedToken:
    """One token of an answer. A *push* is a logit's height above the vocabulary's mean."""

    id: int
    text: str
    start: int
    """Its first character in ``ExplainedAnswer.text``."""
    end: int
    cause: Cause
    probability: float
    """Of the student with its adapter."""
    base_probability: float
    """Of the student without it, behind the same text."""
    base_text: str
    """The token that the student without its adapter would write behind the same text."""
    base_push: float
    reader_push: float
    """What the adapter adds to the base's push."""
    without: str | None
    """The token that the student would write behind the same text if the reader lacked what it injected here."""
    changed: bool | None
    """Whether that is another token; None: nothing was injected."""
    instead: str | None
    """The token that it would write if the reader injected another content of the same kind for this one."""
    decides: bool | None
    """Whether that is another token; None: there is no such content."""


@dataclass(frozen=True)
class ExplainedAnswer:
    """An answer, explained."""

    text: str
    """Prompt and answer, as the tokens spell them."""
    start: int
    """First character of the answer."""
    answer: str
    base_answer: str
    """What the student writes without its adapter."""
    tokens: list[ExplainedToken]
    without: dict[int, str]
    """By content that was injected: what the student writes if its reader lacks it."""
    next_without: dict[int, list[int]]
    """By content: the token that would be written at each place of this answer, the text before it as it is."""
    next_instead: dict[int, list[int]]
    """The same with another content of its kind in its place."""


@torch.no_grad()
def explain_answer(
    loaded: LoadedModel,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    ends: Ends,
    progress: Callable[[int, int], None] | None = None,
) -> ExplainedAnswer:
    """Answers a prompt greedily and says for each token what wrote it.

    Args:
        loaded: a student with one active adapter.
        prompt: token ids.
        ends: what ends an answer.
        progress: called with (done, total) after each part of the work.

    Raises:
        CompatibilityError: the adapter's reader names no steps.
        ModelError: the prompt does not fit the model's context.
    """
    tuner, say = cal_model(loaded.model), progress or (lambda done, total: None)
    find = CauseFinder(tuner, loaded.tokenizer)
    with tuner.observed() as runs:
        completion = generate_greedy(loaded, [prompt], max_new_tokens, ends)[0]
    answer = completion.ids
    causes = find(prompt, answer, runs)
    contents = sorted({cause.content for cause in causes if cause.content is not None})
    groups = [contents[i : i + ROWS] for i in range(0, len(contents), ROWS)]
    total = 2 + len(groups)
    say(1, total)
    with loaded.peft_model.disable_adapter():
        base_answer = generate_greedy(loaded, [prompt], max(16, 2 * len(answer)), ends)[0]
        base_TV = logits_along(loaded, prompt, answer)[0] if answer else torch.zeros(0, 1)
    own_TV = logits_along(loaded, prompt, answer)[0] if answer else torch.zeros(0, 1)
    say(2, total)
    next_without: dict[int, list[int]] = {}
    next_instead: dict[int, list[int]] = {}
    without: dict[int, str] = {}
    for n, group in enumerate(groups):
        next_without |= _along(loaded, prompt, answer, dict.fromkeys(group, -1))
        rivals = {content: rival for content in group if (rival := find.rival(content)) is not None}
        next_instead |= _along(loaded, prompt, answer, rivals)
        with tuner.observed(instead=[{content: -1} for content in group]):
            others = generate_greedy(loaded, [prompt] * len(group), max(16, 2 * len(answer)), ends)
        without |= {c: cut_after(other.text, ends) for c, other in zip(group, others, strict=True)}
        say(3 + n, total)
    text, spans = spans_of(loaded.tokenizer, [*prompt, *answer])
    views = [
        _view(loaded, token, span, cause, own_V, base_V)
        for token, span, cause, own_V, base_V in zip(answer, spans[len(prompt) :], causes, own_TV, base_TV, strict=True)
    ]
    tokens = [_with_others(loaded, view, i, next_without, next_instead) for i, view in enumerate(views)]
    start = spans[len(prompt) - 1][1] if prompt else 0
    cut = cut_after(completion.text, ends), cut_after(base_answer.text, ends)
    return ExplainedAnswer(text, start, *cut, tokens, without, next_without, next_instead)


def _view(
    loaded: LoadedModel,
    token: int,
    span: tuple[int, int],
    cause: Cause,
    own_V: Float[Tensor, " V"],
    base_V: Float[Tensor, " V"],
) -> ExplainedToken:
    own, base = float(own_V[token] - own_V.mean()), float(base_V[token] - base_V.mean())
    return ExplainedToken(
        id=token,
        text=token_text(loaded.tokenizer, token),
        start=span[0],
        end=span[1],
        cause=cause,
        probability=float(own_V.softmax(-1)[token]),
        base_probability=float(base_V.softmax(-1)[token]),
        base_text=token_text(loaded.tokenizer, int(base_V.argmax())),
        base_push=base,
        reader_push=own - base,
        without=None,
        changed=None,
        instead=None,
        decides=None,
    )


def _with_others(
    loaded: LoadedModel,
    token: ExplainedToken,
    index: int,
    next_without: dict[int, list[int]],
    next_instead: dict[int, list[int]],
) -> ExplainedToken:
    """The token with what would stand there without its content, or with another one in its place."""
    content = token.cause.content
    if content is None:
        return token
    without, instead = next_without[content][index], next_instead.get(content)
    token = replace(token, without=token_text(loaded.tokenizer, without), changed=without != token.id)
    if instead is None:
        return token
    return replace(token, instead=token_text(loaded.tokenizer, instead[index]), decides=instead[index] != token.id)


def _along(
    loaded: LoadedModel, prompt: Sequence[int], answer: Sequence[int], instead: dict[int, int]
) -> dict[int, list[int]]:
    """By content: the likeliest token at each place of an answer if another content is injected for it."""
    if not instead:
        return {}
    with cal_model(loaded.model).observed(instead=[{content: other} for content, other in instead.items()]):
        logits_BTV = logits_along(loaded, prompt, answer, rows=len(instead))
    return dict(zip(instead, logits_BTV.argmax(-1).tolist(), strict=True))
