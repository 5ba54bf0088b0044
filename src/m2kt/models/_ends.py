"""What ends a model's answers: texts, its own end tokens, or tokens that a spec names by their text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from m2kt._end import END

from ._end_tokens import end_tokens, own_end_tokens
from ._load import LoadedModel
from ._text import named_tokens

Stop = str | None


@dataclass(frozen=True)
class Ends:
    """The stops of a spec as one model has them."""

    stops: tuple[Stop, ...]
    """As the spec lists them; None: the model's own end tokens."""
    texts: dict[int, str]
    """By index of the stop: those that are text."""
    tokens: dict[int, int]
    """By token id, the index of the stop that it is."""
    own: frozenset[int]
    """The model's own end tokens: they end generation whether or not they are stops."""

    def shown(self) -> str:
        """For messages."""
        return " or ".join("its own end token" if stop is None else f"the stop string {stop!r}" for stop in self.stops)

    def tokens_of(self, index: int) -> list[int]:
        """The tokens that are a stop; none where it is text."""
        return [token for token, stop in self.tokens.items() if stop == index]


def answer_ends(loaded: LoadedModel, stops: Ends | Stop | Sequence[Stop]) -> Ends:
    """What ends an answer of this model; ends that were read for it already stay as they are.

    A text that is a special or added token of its tokenizer counts as that token. ``END`` is None: the end tokens of
    the model's generation configuration and its tokenizer. Of two stops that are one token the first counts.
    """
    if isinstance(stops, Ends):
        return stops
    own = own_end_tokens(loaded.model, loaded.tokenizer)
    return ends_among(loaded.tokenizer, stops, own, end_tokens(loaded.model, loaded.tokenizer))


def ends_among(
    tokenizer: PreTrainedTokenizerBase, stops: Stop | Sequence[Stop], own: Sequence[int], ending: Sequence[int]
) -> Ends:
    """What :func:`answer_ends` says, of a model of which only the end tokens are known.

    Args:
        own: its own end tokens.
        ending: what ``END`` may be.
    """
    listed = (stops,) if stops is None or isinstance(stops, str) else tuple(stops)
    texts: dict[int, str] = {}
    tokens: dict[int, int] = {}
    for index, stop in enumerate(listed):
        text = None if stop == END else stop
        token = None if text is None else named_tokens(tokenizer).get(text)
        if text is not None and token is None:
            texts[index] = text
        for end in ending if text is None else [token]:
            if end is not None:
                tokens.setdefault(end, index)
    return Ends(listed, texts, tokens, frozenset(own))
