"""Answers of a student with its adapter: prompts are encoded as in rehearsal, decoding is greedy and batched."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

from m2kt.models import LoadedModel, encode_units, generate_greedy
from m2kt.probes import Prompt, Segmenter


def encode_question(tokenizer: PreTrainedTokenizerBase, prompt: Prompt | str, symbols: Sequence[str]) -> list[int]:
    """Tokens of a prompt, each unit encoded separately as in rehearsal; plain text is split by the skill's symbols."""
    units = Segmenter(symbols).cut(prompt) if isinstance(prompt, str) else prompt.units
    texts = [unit.text for unit in units]
    return encode_units(tokenizer, texts, prompt_boundary=len(texts)).ids


def complete(
    loaded: LoadedModel,
    prompts: Sequence[Prompt | str],
    *,
    stop: str,
    max_new_tokens: int,
    symbols: Sequence[str],
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Greedy completions, cut after the stop string.

    Args:
        loaded: a student with its adapter, or a frozen student.
        prompts: prompts of a probe spec, or plain text.
        symbols: the skill's symbols, to split plain text into units.
    """
    ids = [encode_question(loaded.tokenizer, prompt, symbols) for prompt in prompts]
    completions = generate_greedy(loaded, ids, max_new_tokens, stop, batch_size=batch_size, progress=progress)
    return [cut_after(completion.text, stop) for completion in completions]


def cut_after(text: str, stop: str) -> str:
    """The text up to the end of the stop string; all of it without one."""
    start = text.find(stop) if stop else -1
    return text if start < 0 else text[: start + len(stop)]
