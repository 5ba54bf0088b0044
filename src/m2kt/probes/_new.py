"""A probe spec from a few example prompts: what varies between them becomes a slot. A commented file to go on with."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from m2kt.errors import SpecError
from m2kt.probes._spec import ProbeSpec

SCHEMA_FILE = "probe-spec.schema.json"
_PIECE = re.compile(r"\d|[^\W\d_]+|\s+|.", re.DOTALL)
_DIGITS = list("0123456789")
_FILE = """\
# yaml-language-server: $schema={schema}
# What can be asked of a teacher; never what the answer is. Every field: docs/usage.md. Next:
#   m2kt probes check THIS_FILE
#   m2kt try TEACHER --probes THIS_FILE
name: {name}

# The values that a slot may take. Quote them: YAML reads 1, yes and no as something else.
slots:
{slots}
# Shapes of prompts. {{x}} draws a value of slot x; {{a=x}} draws one and gives it a name: equal names, equal values.
# Several sizes of one shape let the program be found that works at any size.
templates:
{templates}
# Shapes that are never asked while the skill is extracted: for evaluation only.
held_out: []

# What ends an answer: a text, null for the model's own end token, or a list of these.
stop: {stop}

# How the answer is read in what the teacher writes: a regular expression whose first group it is, such as
# "> ?(.+)\\\\.", or: last number, last line, boxed, json PATH. null: the whole text.
answer: {answer}

# Evaluation only: "truth.py:function" (from a prompt to its answer), or a .jsonl of {{"prompt": ..., "answer": ...}}.
truth: null

# A chat model is asked in its own template:
# chat: {{system: "Answer step by step."}}
"""


@dataclass
class _Slot:
    """Values that stand in the same places."""

    name: str
    values: list[str] = field(default_factory=list)


def new_spec(
    prompts: Sequence[str],
    *,
    name: str = "skill",
    stop: str | None = "\n",
    answer: str | None = None,
    schema: str = SCHEMA_FILE,
) -> str:
    """The text of a commented spec whose templates have the given prompts.

    Digits are values of one slot. A word is a value where prompts of the same form have different words there, or where
    it is a value in another place; all other text is fixed.

    Args:
        prompts: example prompts, of one shape or of several.
        schema: address of the JSON Schema, which editors read.

    Raises:
        SpecError: no prompt, or prompts in which nothing varies.
    """
    texts = list(dict.fromkeys(prompt for prompt in prompts if prompt.strip()))
    if not texts:
        raise SpecError('expected example prompts, got none; write a few: m2kt probes new spec.yaml "12+7:" "5+30:"')
    cut = [_PIECE.findall(text) for text in texts]
    slots = _slots(cut)
    slot_of = {value: slot.name for slot in slots for value in slot.values}
    templates = list(dict.fromkeys("".join(_hole(piece, slot_of) for piece in pieces) for pieces in cut))
    templates = [text for text in templates if re.search(r"(?<!\{)\{\w", text)]
    if not slots or not templates:
        raise SpecError(
            f"expected prompts that differ in a word or hold a number, got {texts[0]!r} and nothing that varies; give "
            "two or more prompts of the same form"
        )
    text = _FILE.format(
        schema=schema,
        name=name,
        slots="".join(f"  {slot.name}: {{values: {json.dumps(slot.values, ensure_ascii=False)}}}\n" for slot in slots),
        templates="".join(f"  - {json.dumps(template, ensure_ascii=False)}\n" for template in templates),
        stop=json.dumps(stop, ensure_ascii=False),
        answer=json.dumps(answer, ensure_ascii=False),
    )
    ProbeSpec.from_yaml(text, source="the new spec")
    return text


def _slots(cut: Sequence[Sequence[str]]) -> list[_Slot]:
    """Slots of the words that vary, those that share a value joined, and one for digits."""
    by_form: dict[tuple[str, ...], list[Sequence[str]]] = {}
    for pieces in cut:
        form = tuple("w" if piece.isalpha() else "d" if piece.isdigit() else piece for piece in pieces)
        by_form.setdefault(form, []).append(pieces)
    groups: list[set[str]] = []
    for rows in by_form.values():
        for column in zip(*rows, strict=True):
            values = set(column)
            if len(values) > 1 and all(value.isalpha() for value in values):
                joined = [group for group in groups if group & values]
                groups = [group for group in groups if not group & values]
                groups.append(values.union(*joined))
    seen = list(dict.fromkeys(piece for pieces in cut for piece in pieces))
    names = iter("xyzuvw" + "abcefghijklmnopqrst")
    slots = [_Slot(next(names), [piece for piece in seen if piece in group]) for group in groups]
    if any(piece.isdigit() for piece in seen):
        slots.append(_Slot("d", _DIGITS))
    return slots


def _hole(piece: str, slot_of: dict[str, str]) -> str:
    if piece in slot_of:
        return f"{{{slot_of[piece]}}}"
    return piece.replace("{", "{{").replace("}", "}}")
