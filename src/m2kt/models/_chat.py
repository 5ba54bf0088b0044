"""Questions as messages: a model's chat template around them, tokenised as ``apply_chat_template`` does it, whole.

Tokens of the rendering around a message belong to no unit of it. Where a token holds text of both it belongs to the
message.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from transformers import PreTrainedTokenizerBase

from m2kt.errors import ModelError

from ._text import Encoded, encode_behind, encode_units, natural_ids, plain_prompt, special_prefix, token_spans

_MARK = "\ue0f1\ue0f2"  # a message that no template holds


@dataclass(frozen=True)
class ChatFormat:
    """How a message is put to a model."""

    system: str | None = None
    """The system message before it."""
    template: str | None = None
    """A Jinja template; None: the tokenizer's own."""
    turns: tuple[tuple[str, str], ...] = ()
    """Questions with answers that stand before the message: earlier turns."""
    plain: bool = False
    """No roles at all: turns are lines of plain text, each as it stands, and the message follows them."""


@dataclass(frozen=True)
class Rendering:
    """A message in a chat template."""

    text: str
    ids: list[int]
    spans: list[tuple[int, int]]
    """By token, the bytes of the text that it stands for."""
    start: int
    """Byte of the text at which the message begins."""


def has_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer brings a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def render(tokenizer: PreTrainedTokenizerBase, chat: ChatFormat, message: str) -> Rendering:
    """A message as the model reads it, up to where the answer begins; thinking is switched off where templates can.

    Raises:
        ModelError: there is no template, it refuses these roles, or it changes the message.
    """
    before, after = _frame(tokenizer, chat)
    text = _apply(tokenizer, chat, message)
    lead = 0
    if text != before + message + after:
        lead = len(message) - len(message.lstrip())  # many templates strip their messages
        if text != before + message.strip() + after:
            raise ModelError(
                f"expected a chat template that keeps the message {message!r}, got {text!r}; write another template "
                "into chat: of the spec"
            )
    prefix = special_prefix(tokenizer) if chat.plain else []  # templates write theirs
    ids = natural_ids(tokenizer, text)
    start = len(before.encode()) - len(message[:lead].encode())
    spans = [*([(0, 0)] * len(prefix)), *token_spans(tokenizer, ids, text)]
    return Rendering(text, [*prefix, *ids], spans, start)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, text: str, chat: ChatFormat | None = None) -> list[int]:
    """Encode a prompt for generation: default prefix, no suffix such as EOS; a message as its template renders it."""
    return plain_prompt(tokenizer, text) if chat is None else list(render(tokenizer, chat, text).ids)


def conversation_ids(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[tuple[str, str]], message: str
) -> list[int] | None:
    """A message behind earlier turns, in the tokenizer's own chat template; None where that cannot render them.

    Args:
        turns: messages of the user, each with the assistant's.
    """
    messages = _as_messages(turns, message)
    try:
        text = str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        )
    except Exception:  # templates are programs of their authors, and some want other roles
        return None
    return natural_ids(tokenizer, text)


def encode_chat(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], n_prompt: int, chat: ChatFormat | None
) -> Encoded:
    """Units of a message and its answer in tokens; without a format those of plain text, see :func:`encode_units`.

    A token of the message belongs to the unit in which it ends; those around the message to none (-1).
    """
    if chat is None:
        return encode_units(tokenizer, texts, prompt_boundary=n_prompt)
    rendering = render(tokenizer, chat, "".join(texts[:n_prompt]))
    ends = [rendering.start + end for end in accumulate(len(text.encode()) for text in texts[:n_prompt])]
    units = []
    for first, end in rendering.spans:
        outside = end <= rendering.start or first >= ends[-1] or first == end
        units.append(-1 if outside else bisect_left(ends, min(end, ends[-1])))
    answer = encode_behind(tokenizer, rendering.text, texts[n_prompt:])
    return Encoded([*rendering.ids, *answer.ids], [*units, *(n_prompt + unit for unit in answer.unit_of_token)])


def _as_messages(turns: Sequence[tuple[str, str]], message: str) -> list[dict[str, str]]:
    roles = [(role, text) for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)]
    return [{"role": role, "content": text} for role, text in [*roles, ("user", message)]]


def _frame(tokenizer: PreTrainedTokenizerBase, chat: ChatFormat) -> tuple[str, str]:
    """What stands before and behind a message."""
    before, mark, after = _apply(tokenizer, chat, _MARK).partition(_MARK)
    if not mark:
        raise ModelError(
            "expected a chat template that holds the user's message, got one without it; write a template into chat: "
            "of the spec that renders messages"
        )
    return before, after


def _apply(tokenizer: PreTrainedTokenizerBase, chat: ChatFormat, message: str) -> str:
    if chat.plain:
        return "".join(question + answer for question, answer in chat.turns) + message
    if chat.template is None and not has_template(tokenizer):
        raise ModelError(
            "expected a model with a chat template, for the spec has chat:, got a tokenizer without one; write "
            "template: with a Jinja template under chat:, or leave chat: out and write the whole prompt into templates"
        )
    messages = [] if chat.system is None else [{"role": "system", "content": chat.system}]
    messages += _as_messages([*chat.turns], message)
    try:
        return str(
            tokenizer.apply_chat_template(
                messages,
                chat_template=chat.template,
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )
        )
    except Exception as error:  # templates are programs of their authors
        reason = str(error).strip().splitlines()
        roles = " and ".join(dict.fromkeys(m["role"] for m in messages))
        raise ModelError(
            f"expected a chat template that renders {roles}, got an error: "
            f"{reason[0] if reason else type(error).__name__}; "
            + ("leave system out of chat:" if chat.system is not None else "write another template into chat:")
        ) from error
