"""Ask a model for answers. Every verb and benchmark asks here, so one adapter's answers have one maximum length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

from m2kt.auditor._traces import cal_config
from m2kt.models import (
    ChatFormat,
    Ends,
    LoadedModel,
    answer_ends,
    encode_prompt,
    encode_units,
    generate_greedy,
    shared_prefix,
    show,
    special_prefix,
)
from m2kt.probes import ProbeSpec, Prompt
from m2kt.student import complete, cut_after, student_chat

LENGTH_SAMPLES = 64
REHEARSED_ANSWERS = 3
"""An adapted model may write this many times its longest rehearsed answer: room for held-out shapes. A frozen student
never stops, so a budget far above the skill's answers would take most of an audit's time."""


def answer_budget(loaded: LoadedModel, spec: ProbeSpec, prompts: Sequence[Prompt | str] = ()) -> int:
    """New tokens that a model may write.

    An adapter records its longest rehearsed answer, so ingest, evaluate and the benchmarks cut its answers at one
    length. Any other model gets the spec's longest answer, converted to the model's tokens: the spec counts the
    teacher's, and a model that needs several tokens for a symbol gets as many times more, by the mean over symbols.

    Args:
        prompts: where they are longer than those of the probed shapes, an adapter may write more: work may grow with
            the square of a problem's size.
    """
    config = cal_config(loaded.model)
    if config is not None and config.answer_tokens:
        growth = _growth(spec, prompts)
        return ceil(max(REHEARSED_ANSWERS * growth, growth**2) * config.answer_tokens) + 4
    prefix = len(special_prefix(loaded.tokenizer))
    lengths = [
        len(encode_units(loaded.tokenizer, [symbol], prompt_boundary=None).ids) - prefix for symbol in spec.values
    ]
    tokens_per_symbol = sum(lengths) / len(lengths) if lengths else 1.0
    return ceil(spec.answer_tokens * max(1.0, tokens_per_symbol))


def _growth(spec: ProbeSpec, prompts: Sequence[Prompt | str]) -> float:
    """How many times longer than a prompt of the longest probed shape the longest of these prompts is, at least 1."""
    probed = max((len(prompt.text) for prompt in spec.sample("rehearsal", LENGTH_SAMPLES, seed=0)), default=0)
    longest = max((len(prompt if isinstance(prompt, str) else prompt.text) for prompt in prompts), default=0)
    return max(1.0, longest / probed) if probed else 1.0


def student_ends(loaded: LoadedModel, spec: ProbeSpec) -> Ends:
    """What ends an answer of this model: what its adapter was trained to write, else what the spec says."""
    config = cal_config(loaded.model)
    return answer_ends(loaded, config.stop if config is not None and config.stop else spec.stops)


def answer_chat(loaded: LoadedModel, spec: ProbeSpec) -> ChatFormat | None:
    """How a spec's prompts are put to this model: in its own chat template, or in the spec's where no adapter is on.

    None: as plain text. A model without an adapter is shown the spec's examples; an adapter has been given the skill.
    """
    chat = student_chat(loaded.tokenizer, spec)
    if cal_config(loaded.model) is not None:
        return chat
    if spec.chat is not None and spec.chat.jinja is not None:
        chat = ChatFormat(spec.chat.system, spec.chat.jinja)
    return show(loaded.tokenizer, chat, spec.shown, answer_ends(loaded, spec.stops))


def ask(
    loaded: LoadedModel,
    spec: ProbeSpec,
    prompts: Sequence[Prompt | str],
    *,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Greedy completions, each cut behind its end where that was written; ``END`` stands for the model's end token.

    A spec's messages are put in the model's chat template. Of plain text a student with a trained reader (switched on
    or off) reads each unit in tokens of its own, as it rehearsed it; any other model, one with the executed reader
    too, reads it as its tokenizer encodes plain text.
    """
    budget, config = answer_budget(loaded, spec, prompts), cal_config(loaded.model)
    ends, chat = student_ends(loaded, spec), answer_chat(loaded, spec)
    if config is not None and config.reader != "executed":
        return complete(
            loaded,
            prompts,
            stop=ends,
            max_new_tokens=budget,
            symbols=spec.values,
            chat=chat,
            batch_size=batch_size,
            progress=progress,
        )
    texts = [prompt if isinstance(prompt, str) else prompt.text for prompt in prompts]
    ids = [encode_prompt(loaded.tokenizer, text, chat) for text in texts]
    prefix = shared_prefix(loaded, ids) if config is None else None  # a reader reads the whole pass
    answers = generate_greedy(loaded, ids, budget, ends, batch_size=batch_size, prefix=prefix, progress=progress)
    return [cut_after(answer.text, ends) for answer in answers]
