"""Examples that stand before every question: earlier turns of a chat, or text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from m2kt._end import END

from ._chat import ChatFormat
from ._ends import Ends
from ._text import end_token


def show(
    tokenizer: PreTrainedTokenizerBase, chat: ChatFormat | None, examples: Sequence[tuple[str, str]], ends: Ends
) -> ChatFormat | None:
    """A format with examples before the message; without a format they are plain text, each ended by the first stop.

    Args:
        examples: questions with their answers, which lack what ends them.
    """
    if not examples:
        return chat
    if chat is not None:
        return replace(chat, turns=tuple(examples))
    stop, token = ends.stops[0], end_token(tokenizer)
    if stop is None or stop == END:
        stop = "" if token is None else str(tokenizer.convert_ids_to_tokens(token))
    return ChatFormat(turns=tuple((question, answer + stop) for question, answer in examples), plain=True)
