"""Answers of a student with its adapter: prompts are encoded as in rehearsal, decoding is greedy and batched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from m2kt.models import encode_units, generate_greedy
from m2kt.probes import Prompt, Segmenter


def encode_question(tokenizer: Any, prompt: Prompt | str, symbols: Sequence[str]) -> list[int]:
    """Tokens of a prompt with its units apart, exactly as rehearsal wrote them.

    A bare string is cut into units by the skill's symbols first.
    """
    if isinstance(prompt, str):
        texts = [unit.text for unit in Segmenter(symbols).cut(prompt)]
    else:
        texts = [unit.text for unit in prompt.units]
    return encode_units(tokenizer, texts, prompt_boundary=len(texts)).ids


def complete(
    loaded: Any,
    prompts: Sequence[Prompt | str],
    *,
    stop: str,
    max_new_tokens: int,
    symbols: Sequence[str],
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Greedy completions, each cut right behind the stop string where it was reached.

    Args:
        loaded: a ``LoadedModel`` whose ``model`` carries the adapter (or not: the bare student answers then).
        prompts: prompts of a probe spec, or plain text.
        symbols: the skill's symbols, for cutting plain text into units.
    """
    ids = [encode_question(loaded.tokenizer, prompt, symbols) for prompt in prompts]
    found = generate_greedy(loaded, ids, max_new_tokens, stop, batch_size=batch_size, progress=progress)
    return [cut_after(answer.text, stop) for answer in found]


def cut_after(text: str, stop: str) -> str:
    """The text up to and with the stop string, where it holds it."""
    at = text.find(stop) if stop else -1
    return text if at < 0 else text[: at + len(stop)]
