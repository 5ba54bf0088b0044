"""Answers of a student with its adapter: prompts are encoded as in rehearsal, decoding is greedy and batched."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

from m2kt.models import ChatFormat, Ends, LoadedModel, answer_ends, encode_prompt, encode_units, generate_greedy
from m2kt.probes import Prompt, Segmenter


def encode_question(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt | str, symbols: Sequence[str], chat: ChatFormat | None = None
) -> list[int]:
    """Tokens of a prompt, each unit encoded separately as in rehearsal; plain text is split by the skill's symbols.

    In a chat template it is encoded whole.
    """
    if chat is not None:
        return encode_prompt(tokenizer, prompt if isinstance(prompt, str) else prompt.text, chat)
    units = Segmenter(symbols).cut(prompt) if isinstance(prompt, str) else prompt.units
    texts = [unit.text for unit in units]
    return encode_units(tokenizer, texts, prompt_boundary=len(texts)).ids


def complete(
    loaded: LoadedModel,
    prompts: Sequence[Prompt | str],
    *,
    stop: Ends | str | None,
    max_new_tokens: int,
    symbols: Sequence[str],
    chat: ChatFormat | None = None,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Greedy completions, cut behind their ends.

    Args:
        loaded: a student with its adapter, or a frozen student.
        prompts: prompts of a probe spec, or plain text.
        stop: what ends an answer; None: the model's end tokens.
        symbols: the skill's symbols, to split plain text into units.
        chat: how prompts are put to the student; None: as plain text.
    """
    ends = answer_ends(loaded, stop)
    ids = [encode_question(loaded.tokenizer, prompt, symbols, chat) for prompt in prompts]
    completions = generate_greedy(loaded, ids, max_new_tokens, ends, batch_size=batch_size, progress=progress)
    return [cut_after(completion.text, ends) for completion in completions]


def cut_after(text: str, ends: Ends) -> str:
    """The text up to and with the first stop; all of it without one."""
    found = [(start, len(stop)) for stop in ends.texts.values() if (start := text.find(stop)) >= 0]
    return text[: sum(min(found))] if found else text
