"""Explain: one answer of a student with an adapter, token by token, as data, as a picture and as a page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from m2kt.errors import SpecError
from m2kt.pipeline._inputs import question_ids, with_adapter
from m2kt.pipeline._report import Progress, Result, no_progress
from m2kt.render import DrawnUnit, draw_answer, explanation_page, save_page, shown

if TYPE_CHECKING:
    from m2kt.models import Dtype, LoadedModel
    from m2kt.student import CALConfig, ExplainedAnswer, ExplainedToken

MAX_NEW_TOKENS = 256


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReadText(_Model):
    """A piece of text that a step looked at."""

    text: str
    start: int | None = Field(description="First character in `text`; null: it stands there in other words.")
    end: int | None


class TokenExplanation(_Model):
    """What wrote one token. A push is a logit's height above the vocabulary's mean."""

    id: int
    text: str
    start: int = Field(description="First character in the explanation's `text`.")
    end: int
    kind: Literal["concept", "copy", "literal", "base"] = Field(
        description="A row of a rule, a copied symbol, fixed text, or the student by itself."
    )
    unit: int | None = Field(description="Number of the answer's unit that the token belongs to.")
    concept: int | None = Field(description="Number of the concept; null: none wrote the token.")
    rule: str | None
    row: list[str] | None = Field(description="Symbols of the concept's row.")
    writes: str | None = Field(description="What the concept, copy or literal stands for.")
    confidence: float | None = Field(description="The teacher's own probability at this row; null: not known.")
    teacher: str | None = Field(description="The model that the concept comes from.")
    signer: str | None = Field(description="Key id of the packet's signer.")
    reads: list[ReadText] = Field(description="What the step looked at: a rule's arguments, or what is copied.")
    state: int | None = Field(description="State of the packet's program; of the executed reader.")
    probability: float = Field(description="Of the student with its adapter.")
    base_probability: float = Field(description="Of the student alone, behind the same text.")
    base_text: str = Field(description="What the student alone would write behind the same text.")
    reader_push: float = Field(description="What the adapter adds to the base's push.")
    base_push: float
    without: str | None = Field(description="What would be written here without this concept, copy or literal.")
    changed: bool | None = Field(description="Whether that is another token; null: nothing was injected.")
    instead: str | None = Field(description="What would be written if another one of its kind were injected.")
    decides: bool | None = Field(description="Whether that is another token; null: there is no other one.")


class UsedConcept(_Model):
    """A concept of an answer, and the answer without it."""

    concept: int
    rule: str
    row: list[str]
    writes: str | None
    confidence: float | None
    teacher: str | None
    signer: str | None
    tokens: list[int] = Field(description="Numbers of the tokens that it wrote.")
    answer_without: str = Field(description="What the student would have said without it.")


class Explanation(Result):
    """An answer and where each of its tokens comes from."""

    model: str
    adapter: str
    depth: Literal["executed", "learned"]
    packet: str | None = Field(description="Digest of the adapter's packet; null: an adapter of an earlier version.")
    skill: str | None = Field(description="Name of the packet.")
    teacher: str | None
    signer: str | None
    prompt: str
    text: str = Field(description="Prompt and answer as the student's tokens spell them.")
    answer_start: int = Field(description="First character of the answer in `text`.")
    answer: str
    base_answer: str = Field(description="What the student says without its adapter.")
    tokens: list[TokenExplanation] = Field(repr=False)
    concepts: list[UsedConcept] = Field(
        description="Concepts of the answer, in order of their first token.", repr=False
    )
    seconds: float

    def headline(self) -> str:
        return f"{shown(self.prompt)} -> {shown(self.answer.strip())}"

    def table(self) -> dict[str, str]:
        rows = {"with the adapter": shown(self.answer), "the student alone": shown(self.base_answer)}
        for used in self.concepts:
            name = f"{used.rule}({', '.join(used.row)}) = {used.writes}"
            rows[f"without {name}"] = shown(used.answer_without)
        return rows

    def units(self) -> list[DrawnUnit]:
        """The answer's units, for pictures: tokens of one unit together."""
        return [
            _unit(list(group))
            for _, group in groupby(self.tokens, key=lambda t: t.start if t.unit is None else (t.unit,))
        ]

    def picture(self, *, animated: bool = False) -> str:
        """The answer as an SVG with its causes as arcs; animated, it is written unit by unit."""
        return draw_answer(self.text, self.answer_start, self.units(), animated=animated)

    def _repr_html_(self) -> str:
        return f'<div style="overflow-x:auto">{self.picture()}</div>{super()._repr_html_()}'


def explain(
    model: str,
    prompt: str,
    *,
    adapter: str | Path,
    chat: bool = False,
    max_new_tokens: int = MAX_NEW_TOKENS,
    html: str | Path | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    progress: Progress | None = None,
) -> Explanation:
    """Answers a prompt with an adapter, and says for each token what wrote it.

    That is a concept (a row of a rule), a copy or a literal of the packet, or the student itself; with what the step
    read, how hard the adapter and the student pushed, and what would have been said without it.

    Args:
        chat: put the prompt into the student's own chat template, as a user's message.
        max_new_tokens: longest answer.
        html: file for a page.

    Raises:
        SpecError: the prompt is empty, or the student has no chat template to put it in.
        CompatibilityError: no adapter, or none that names its steps.
    """
    from m2kt.models import load_causal_lm
    from m2kt.student import own_chat

    if not prompt.strip():
        raise SpecError("expected a prompt to explain the answer to, got an empty one; write a question of the skill")
    loaded = with_adapter(load_causal_lm(model, device=device, dtype=dtype), adapter)
    if chat and own_chat(loaded.tokenizer) is None:
        raise SpecError(f"expected a student with a chat template, got {model} without one; leave out chat")
    ids = question_ids(loaded, prompt, chat=chat)
    explanation = explain_loaded(loaded, adapter, prompt, ids, max_new_tokens=max_new_tokens, progress=progress)
    if html is not None:
        save_page(explanation_html(explanation), html)
    return explanation


def explain_loaded(
    loaded: LoadedModel,
    adapter: str | Path,
    prompt: str,
    ids: Sequence[int],
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    progress: Progress | None = None,
) -> Explanation:
    """The same with a student that is loaded, with one active adapter, and a prompt's tokens."""
    from m2kt.auditor import cal_config
    from m2kt.models import answer_ends
    from m2kt.student import explain_answer

    started, say = time.monotonic(), progress or no_progress
    config = cal_config(loaded.model)
    assert config is not None
    ends = answer_ends(loaded, config.stop or None)
    answer = explain_answer(loaded, ids, max_new_tokens=max_new_tokens, ends=ends, progress=partial(say, "explaining"))
    return _explanation(loaded, str(adapter), prompt, config, answer, started)


def _explanation(
    loaded: LoadedModel, adapter: str, prompt: str, config: CALConfig, answer: ExplainedAnswer, started: float
) -> Explanation:
    tokens = [_token(token, config) for token in answer.tokens]
    concepts = {
        token.cause.content: token.cause
        for token in answer.tokens
        if token.cause.kind == "concept" and token.cause.content is not None
    }
    used = [
        UsedConcept(
            concept=concept,
            rule=cause.rule or "",
            row=list(cause.arguments),
            writes=cause.writes,
            confidence=_confidence(config, concept),
            teacher=config.origin.get("teacher"),
            signer=config.origin.get("signer"),
            tokens=[i for i, token in enumerate(tokens) if token.concept == concept],
            answer_without=answer.without[concept],
        )
        for concept, cause in concepts.items()
    ]
    begin = answer.text.find(prompt)
    skipped = max(begin, 0)  # special tokens and a chat template's head
    return Explanation(
        model=loaded.name,
        adapter=adapter,
        depth="executed" if config.reader == "executed" else "learned",
        packet=config.origin.get("packet"),
        skill=config.origin.get("name"),
        teacher=config.origin.get("teacher"),
        signer=config.origin.get("signer"),
        prompt=prompt,
        text=answer.text[skipped:],
        answer_start=answer.start - skipped,
        answer=answer.answer,
        base_answer=answer.base_answer,
        tokens=[_shifted(token, skipped) for token in tokens],
        concepts=used,
        seconds=round(time.monotonic() - started, 2),
    )


def _confidence(config: CALConfig, concept: int) -> float | None:
    return config.confidences[concept] if concept < len(config.confidences) else None


def _token(token: ExplainedToken, config: CALConfig) -> TokenExplanation:
    cause = token.cause
    is_concept = cause.kind == "concept" and cause.content is not None
    concept = cause.content if is_concept else None
    known = cause.kind != "base"
    return TokenExplanation(
        id=token.id,
        text=token.text,
        start=token.start,
        end=token.end,
        kind=cause.kind,
        unit=cause.unit,
        concept=concept,
        rule=cause.rule,
        row=list(cause.arguments) if is_concept else None,
        writes=cause.writes,
        confidence=None if concept is None else _confidence(config, concept),
        teacher=config.origin.get("teacher") if known else None,
        signer=config.origin.get("signer") if known else None,
        reads=[ReadText(text=read.text, start=read.start, end=read.end) for read in cause.reads],
        state=cause.state,
        probability=round(token.probability, 6),
        base_probability=round(token.base_probability, 6),
        base_text=token.base_text,
        reader_push=round(token.reader_push, 4),
        base_push=round(token.base_push, 4),
        without=token.without,
        changed=token.changed,
        instead=token.instead,
        decides=token.decides,
    )


def _shifted(token: TokenExplanation, skipped: int) -> TokenExplanation:
    """The token, its places counted from the prompt's beginning; what stood before it has none."""
    reads = [
        read.model_copy(update={"start": read.start - skipped, "end": read.end - skipped})
        if read.start is not None and read.end is not None and read.start >= skipped
        else read.model_copy(update={"start": None, "end": None})
        for read in token.reads
    ]
    return token.model_copy(update={"start": token.start - skipped, "end": token.end - skipped, "reads": reads})


def _unit(tokens: list[TokenExplanation]) -> DrawnUnit:
    """Tokens of one unit as a picture shows them: by the one that the adapter pushes most."""
    main = max((t for t in tokens if t.kind != "literal" or len(tokens) == 1), key=_push, default=tokens[-1])
    because = {
        "concept": f"{main.rule}({', '.join(main.row or [])})",
        "copy": "copy",
        "literal": "fixed",
        "base": "by itself",
    }[main.kind]
    return DrawnUnit(
        text="".join(t.text for t in tokens),
        start=tokens[0].start,
        end=tokens[-1].end,
        kind=main.kind,
        because=because,
        rule=main.rule,
        confidence=main.confidence,
        reads=[(read.text, read.start, read.end) for read in main.reads],
        probability=main.probability,
        base_probability=main.base_probability,
        base_text=main.base_text,
        reader_push=main.reader_push,
        base_push=main.base_push,
        without=main.without,
        changed=main.changed,
    )


def _push(token: TokenExplanation) -> float:
    return token.reader_push


def explanation_html(explanation: Explanation) -> str:
    """The page of ``--html``: picture, units, the answers side by side, and where the skill comes from."""
    origin = {
        "student": explanation.model,
        "adapter": explanation.adapter,
        "depth": explanation.depth,
        "skill": explanation.skill or "not recorded",
        "teacher": explanation.teacher or "not recorded",
        "packet": explanation.packet or "not recorded",
        "signed by key": explanation.signer or "not recorded",
    }
    return explanation_page(
        explanation.headline(), explanation.picture(), explanation.units(), explanation.table(), origin
    )
