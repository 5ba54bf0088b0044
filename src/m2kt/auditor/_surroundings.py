"""Does the skill hold where a question stands in other text? Accuracy as evaluated, and after each of a few texts.

Prompts are read as plain text, as a user's program encodes them. What the skill needs in front of a question it was not
rehearsed with is measured, not assumed: a reader that learnt absolute places answers in the right form, and wrongly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field

from m2kt.auditor._answers import answer_budget, answer_chat, student_ends
from m2kt.models import ChatFormat, LoadedModel, encode_prompt, generate_greedy, special_prefix
from m2kt.probes import ProbeSpec, Prompt, Truth
from m2kt.student import own_chat

PROMPTS = 32
BEFORE = {
    "after one blank": " ",
    "after a newline": "\n",
    'after "Q: "': "Q: ",
    'after "Please answer: "': "Please answer: ",
    "after an earlier line": "Hello there.\n",
}
AS_EVALUATED, NO_SPECIAL = "as evaluated", "without special tokens"
PLAIN = "as plain text"
SECOND, CHAT = "as the second question", "in the chat template"

Encode = Callable[[str], list[int]]


class Surrounding(BaseModel):
    """Accuracy of prompts in one surrounding."""

    name: str = Field(description="What stands around the prompt.")
    accuracy: float = Field(description="Share of right answers.")
    n: int = Field(description="Prompts judged.")


@dataclass(frozen=True)
class _Asked:
    """Prompts, their truth, and a question that is answered already."""

    prompts: list[Prompt]
    truth: Truth
    example: str | None


def measure_surroundings(
    loaded: LoadedModel,
    spec: ProbeSpec,
    prompts: Sequence[Prompt],
    truth: Truth,
    *,
    example: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Surrounding]:
    """Ask prompts in each surrounding; those that the truth cannot judge are left out.

    Args:
        loaded: a student with its adapter.
        example: a prompt with its whole answer and stop string, to put before the question; None: not measured.
    """
    chosen = [prompt for prompt in prompts if truth.judge(prompt.text, truth.expected(prompt.text)) is not None]
    asked = _Asked(chosen[:PROMPTS], truth, example)
    if not asked.prompts:
        return []
    ways, budget = dict(_ways(loaded, asked, answer_chat(loaded, spec))), answer_budget(loaded, spec)
    ends = student_ends(loaded, spec)
    rows: list[Surrounding] = []
    for name, encode in ways.items():
        completions = generate_greedy(loaded, [encode(p.text) for p in asked.prompts], budget, ends)
        right = [
            truth.judge(prompt.text, spec.read_answer(completion.text))
            for prompt, completion in zip(asked.prompts, completions, strict=True)
        ]
        rows.append(Surrounding(name=name, accuracy=sum(map(bool, right)) / len(right), n=len(right)))
        if progress is not None:
            progress(len(rows), len(ways))
    return rows


def _ways(loaded: LoadedModel, asked: _Asked, chat: ChatFormat | None) -> Iterator[tuple[str, Encode]]:
    """Every surrounding, as a function from a prompt to tokens."""
    tokenizer = loaded.tokenizer

    def behind(text: str) -> Encode:
        return lambda prompt: encode_prompt(tokenizer, text + prompt)

    yield AS_EVALUATED, lambda prompt: encode_prompt(tokenizer, prompt, chat)
    if chat is not None:
        yield PLAIN, behind("")
    skip = len(special_prefix(tokenizer))
    if skip:
        yield NO_SPECIAL, lambda prompt: encode_prompt(tokenizer, prompt)[skip:]
    for name, text in BEFORE.items():
        yield name, behind(text)
    if asked.example is not None:
        yield SECOND, behind(asked.example)
    own = own_chat(tokenizer)
    if own is not None and chat is None:
        yield CHAT, lambda prompt: encode_prompt(tokenizer, prompt, own)
