"""A model's own end tokens."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedTokenizerBase

from ._chat import has_template
from ._text import named_tokens, set_end_token


def own_end_tokens(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """End tokens of the model's generation configuration, then its tokenizer's, without ids that stand for text."""
    named = set(named_tokens(tokenizer).values())
    return [token for token in dict.fromkeys([*_configured(model), tokenizer.eos_token_id]) if token in named]


def _configured(model: nn.Module) -> list[int]:
    ids = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


def end_tokens(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What ``END`` may be: the model's own end tokens, or text that it is configured to end by where it has none."""
    return own_end_tokens(model, tokenizer) or _configured(model)


def choose_end_token(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let ``END`` be the model's own: the end token behind an assistant's turn in its chat template, else the first."""
    own = end_tokens(model, tokenizer)
    if own:
        behind = [token for token in _behind_an_answer(tokenizer) if token in own]
        set_end_token(tokenizer, (behind or own)[0])


def _behind_an_answer(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens behind an assistant's turn in the tokenizer's chat template; none without one."""
    if not has_template(tokenizer):
        return []
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "7Q7"}]
    try:
        rendered = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception:  # templates are programs of their authors
        return []
    return list(tokenizer.encode(rendered.rpartition("7Q7")[2], add_special_tokens=False))
