"""The surroundings in which every skill's questions are asked: each a function from a prompt to tokens."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from itertools import cycle, islice
from typing import Literal

from m2kt.auditor._answers import answer_budget, answer_chat
from m2kt.auditor._retention import neutral_text
from m2kt.models import (
    ChatFormat,
    LoadedModel,
    context_length,
    conversation_ids,
    encode_prompt,
    natural_ids,
    special_prefix,
)
from m2kt.probes import END, PROMPT, SURROUNDINGS, Phrasing, ProbeSpec, Prompt
from m2kt.student import other_sentence, own_chat

AS_EVALUATED = "as evaluated"
LONGER_TEXT = 300  # tokens in front of a question in the middle of a text
FAR = 2048  # tokens: where a context is longer, its end is too far for an audit
FEW = 8
VERY_FEW = 4

Expected = Literal["right", "silent"]
"""What a skill has to be in a surrounding that leaves its question what it is, and in one that does not."""


@dataclass(frozen=True)
class Example:
    """A question with the whole answer of the packet."""

    question: str
    answer: str
    """Without what ends it."""


@dataclass(frozen=True)
class Way:
    """One surrounding."""

    name: str
    encode: Callable[[Prompt], list[int] | None]
    """Tokens of a prompt in it; None where it would be the prompt as it is."""
    expected: Expected = "right"
    most: int | None = None
    """Most prompts that are asked so; None: as many as any."""
    together: bool = False
    """Whether all are asked in one batch."""


def every_way(loaded: LoadedModel, spec: ProbeSpec, examples: Sequence[Example]) -> Iterator[Way]:
    """Every surrounding, as evaluated first.

    Args:
        examples: answered questions, for what stands before; fewer than four leave some out.
    """
    tokenizer, chat = loaded.tokenizer, answer_chat(loaded, spec)

    def asked(text: str) -> list[int]:
        return encode_prompt(tokenizer, text, chat)

    yield Way(AS_EVALUATED, lambda prompt: asked(prompt.text))
    for name, change, expected in _texts(spec, examples):
        yield Way(name, _changed(change, asked), expected)
    if chat is not None:
        yield Way("as plain text", lambda prompt: encode_prompt(tokenizer, prompt.text))
    yield from _other_words(spec, asked)
    yield from _special_tokens(loaded)
    yield from _turns(loaded, chat, examples)
    yield from _places(loaded, spec)


def _changed(
    change: Callable[[Prompt], str | None], asked: Callable[[str], list[int]]
) -> Callable[[Prompt], list[int] | None]:
    def encode(prompt: Prompt) -> list[int] | None:
        text = change(prompt)
        return None if text is None or text == prompt.text else asked(text)

    return encode


def _texts(
    spec: ProbeSpec, examples: Sequence[Example]
) -> Iterator[tuple[str, Callable[[Prompt], str | None], Expected]]:
    """Surroundings of text: name, text of a prompt, and what is expected."""

    def around(text: str) -> Callable[[Prompt], str]:
        return lambda prompt: text.replace(PROMPT, prompt.text)

    blanks = {"one blank": " ", "two blanks": "  ", "a newline": "\n", "a tab": "\t"}
    for name, blank in blanks.items():
        yield f"after {name}", around(blank + PROMPT), "right"
    for name, blank in list(blanks.items())[::2]:
        yield f"with {name} behind", around(PROMPT + blank), "right"
    yield "with two blanks for one", lambda prompt: prompt.text.replace(" ", "  "), "right"
    for text in dict.fromkeys((*SURROUNDINGS, *spec.surroundings)):
        yield "as " + json.dumps(text, ensure_ascii=False), around(text), "right"
    for name, text in _earlier(spec, examples).items():
        yield name, around(text), "right"
    yield "with commas", _with_commas, "silent"
    yield "with another separator", _with_another_separator, "silent"
    yield "in the other case", lambda prompt: _in_the_other_case(prompt, spec.values), "silent"


def _other_words(spec: ProbeSpec, asked: Callable[[str], list[int]]) -> Iterator[Way]:
    """The question in other words, and other questions with the same symbols."""
    listed = spec.phrased()

    def put(phrasings: Sequence[Phrasing], prompt: Prompt) -> list[int] | None:
        texts = [text for phrasing in phrasings if (text := spec.put(prompt, phrasing)) is not None]
        return asked(_drawn(texts, prompt)) if texts else None

    def other(prompt: Prompt) -> list[int] | None:
        groups = next((g for phrasing in listed if (g := spec.groups(prompt, phrasing)) is not None), None)
        return None if groups is None else asked(other_sentence(_drawn(lines, prompt), groups))

    if listed:
        lines = files("m2kt.auditor").joinpath("other_questions.txt").read_text(encoding="utf-8").splitlines()
        yield Way("in listed phrasings", partial(put, listed))
        yield Way("in held-out phrasings", partial(put, spec.phrased(held_out=True)))
        yield Way("in other questions with its symbols", other, "silent")


def _drawn(texts: Sequence[str], prompt: Prompt) -> str:
    """One of some texts, the same for a prompt in every run."""
    return texts[zlib.crc32(prompt.text.encode()) % len(texts)]


def _earlier(spec: ProbeSpec, examples: Sequence[Example]) -> dict[str, str]:
    """Text with what stood in it before the question, by name."""
    stop = "\n" if spec.end == END else spec.end
    sentences = neutral_text()
    texts = {"after an earlier line": f"{sentences[0]}\n{PROMPT}"}
    texts["after earlier lines"] = "\n".join([*sentences[:4], "", PROMPT])
    for name, n in (("second", 1), ("third", 2)):
        lines = "".join(e.question + e.answer + stop for e in examples[:n])
        if len(examples) >= n:
            texts[f"as the {name} question"] = lines + PROMPT
    shots = examples[:3]
    if len(examples) > 3:
        # each answer but the last one belongs to another question
        wrong = [replace(shot, answer=other.answer) for shot, other in zip(shots, examples[1:], strict=False)]
        bare = [replace(shot, answer=" " + (spec.read_answer(shot.answer + spec.end) or "")) for shot in shots]
        texts["after three lines of the skill"] = _lines(shots) + PROMPT
        texts["after three wrong lines"] = _lines(wrong) + PROMPT
        texts["after three lines of answers alone"] = _lines(bare) + PROMPT
        asked = "".join(f"Q: {shot.question}\nA:{shot.answer}\n\n" for shot in shots)
        texts['after three lines "Q:" and "A:"'] = f"{asked}Q: {PROMPT}\nA:"
    return texts


def _lines(shots: Sequence[Example]) -> str:
    return "".join(shot.question + shot.answer + "\n" for shot in shots)


def _with_commas(prompt: Prompt) -> str | None:
    """A comma behind each symbol that another one follows."""
    texts = [unit.text for unit in prompt.units]
    for i, (unit, following) in enumerate(zip(prompt.units, prompt.units[1:], strict=False)):
        if unit.symbol is not None and following.symbol is not None:
            texts[i] += ","
    return "".join(texts)


def _with_another_separator(prompt: Prompt) -> str | None:
    """A bar for each text between symbols, or for the blanks between them."""
    symbols = [i for i, unit in enumerate(prompt.units) if unit.symbol is not None]
    between = [i for i in range(symbols[0], symbols[-1]) if prompt.units[i].symbol is None]
    texts = [unit.text for unit in prompt.units]
    for i in between or symbols[1:]:
        texts[i] = " | " if between else texts[i].replace(" ", " | ")
    return "".join(texts)


def _in_the_other_case(prompt: Prompt, values: Sequence[str]) -> str | None:
    """Upper case for lower case and the reverse; None where that gives another symbol."""
    if any(value.swapcase() != value and value.swapcase() in values for value in values):
        return None
    return "".join(unit.text if unit.symbol is None else unit.text.swapcase() for unit in prompt.units)


def _special_tokens(loaded: LoadedModel) -> Iterator[Way]:
    tokenizer = loaded.tokenizer
    skip, begin = len(special_prefix(tokenizer)), tokenizer.bos_token_id
    if skip:
        yield Way("without special tokens", lambda prompt: encode_prompt(tokenizer, prompt.text)[skip:])
    elif begin is not None:
        yield Way("behind a begin-of-text token", lambda prompt: [begin, *encode_prompt(tokenizer, prompt.text)])


def _turns(loaded: LoadedModel, chat: ChatFormat | None, examples: Sequence[Example]) -> Iterator[Way]:
    """The student's own chat template, where it has one."""
    tokenizer = loaded.tokenizer
    own = own_chat(tokenizer)
    if own is None:
        return
    system = own_chat(tokenizer, "You are a helpful assistant.")
    if chat is None:
        yield Way("in the chat template", lambda prompt: encode_prompt(tokenizer, prompt.text, own))
    if system is not None and system.system is not None:
        yield Way("with a system message", lambda prompt: encode_prompt(tokenizer, prompt.text, system))
    earlier: dict[str, Sequence[tuple[str, str]]] = {"after another turn": [("Hello!", "Hello. How can I help you?")]}
    if examples:
        earlier["in the second turn"] = [(examples[0].question, examples[0].answer)]
    for name, turns in earlier.items():
        if conversation_ids(tokenizer, turns, "x") is not None:
            yield Way(name, _after(loaded, turns))


def _after(loaded: LoadedModel, turns: Sequence[tuple[str, str]]) -> Callable[[Prompt], list[int] | None]:
    return lambda prompt: conversation_ids(loaded.tokenizer, turns, prompt.text)


def _places(loaded: LoadedModel, spec: ProbeSpec) -> Iterator[Way]:
    """Far from the beginning of the text, and beside padding."""
    tokenizer, prefix = loaded.tokenizer, special_prefix(loaded.tokenizer)
    lines = [natural_ids(tokenizer, line + "\n") for line in neutral_text()]
    end, budget = min(context_length(loaded.model), FAR), answer_budget(loaded, spec)

    def behind(prompt: Prompt, room: int) -> list[int] | None:
        """A prompt behind so many tokens of text, less what does not fit."""
        asked = encode_prompt(tokenizer, prompt.text)[len(prefix) :]
        room = min(room, end - budget - len(asked) - len(prefix))
        filling = [token for line in islice(cycle(lines), room) for token in line][-room:] if room > 0 else []
        newline = natural_ids(tokenizer, "\n")
        return [*prefix, *filling[: -len(newline)], *newline, *asked] if len(filling) > len(newline) else None

    # a number of tokens in front that differs from row to row
    yield Way("in a padded batch", lambda prompt: behind(prompt, 2 + sum(prompt.text.encode()) % 61), together=True)
    yield Way("in the middle of a longer text", lambda prompt: behind(prompt, LONGER_TEXT), most=FEW)
    yield Way("near the end of the context", lambda prompt: behind(prompt, end), most=VERY_FEW)
