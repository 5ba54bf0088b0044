"""How a packet's questions are put to one student: in its own chat template, if it has one."""

from __future__ import annotations

from typing import cast

from transformers import PreTrainedTokenizerBase

from m2kt.errors import ModelError
from m2kt.models import ChatFormat, encode_prompt, has_template
from m2kt.probes import ProbeSpec


def student_chat(tokenizer: PreTrainedTokenizerBase, spec: ProbeSpec) -> ChatFormat | None:
    """The chat format of a spec's messages in a student; None: as plain text, for the spec or the student knows none.

    The system message is left out where the student's template knows no such role.
    """
    return None if spec.chat is None else own_chat(tokenizer, spec.chat.system)


def own_chat(tokenizer: PreTrainedTokenizerBase, system: str | None = None) -> ChatFormat | None:
    """The chat format of a tokenizer's own template, with a system message if it knows that role; None: it has none."""
    for chat in dict.fromkeys([ChatFormat(system), ChatFormat()]) if has_template(tokenizer) else ():
        try:
            encode_prompt(tokenizer, "x", chat)
        except ModelError:
            continue
        return chat
    return None


def turns_of_roles(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Tokens between a user's message and the answer in the tokenizer's chat template; none without one.

    With thinking switched off and on, where the template knows it.
    """
    if not has_template(tokenizer):
        return []
    turns = [_shared_end(tokenizer, thinking) for thinking in (False, True)]
    return [list(turn) for turn in dict.fromkeys(turns) if turn]


def _shared_end(tokenizer: PreTrainedTokenizerBase, thinking: bool) -> tuple[int, ...]:
    rendered: list[list[int]] = []
    for content in ("x", "1:"):
        try:
            ids = tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                return_dict=False,
                enable_thinking=thinking,
            )
        except Exception:  # templates are programs of their authors, and some want other roles
            return ()
        rendered.append(list(cast(list[int], ids)))
    shared = 0
    while shared < min(map(len, rendered)) and rendered[0][-1 - shared] == rendered[1][-1 - shared]:
        shared += 1
    return tuple(rendered[0][len(rendered[0]) - shared :])
