"""Training sequences of a student, and whether TRL can compare a teacher's logits with the student's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, TypedDict

import torch

from m2kt.errors import CompatibilityError, SpecError
from m2kt.models import LoadedModel, context_length, encode_units, special_prefix, token_bytes
from m2kt.student import IGNORE

Pairs = Sequence[tuple[str, str]]
Method = Literal["gkd", "gold by bytes", "gold by position"]

SHARED = 0.5  # least share of the student's tokens that are in the teacher's vocabulary too, for GOLD


class Row(TypedDict):
    """One training sequence with the keys that TRL's trainers read."""

    input_ids: list[int]
    labels: list[int]
    completion_mask: list[int]
    byte_offsets: list[tuple[int, int]]
    original_prompt_text: str
    original_completion_text: str


def rows_of(student: LoadedModel, pairs: Pairs) -> list[Row]:
    """Token sequences of (prompt, completion): the prompt as the evaluation encodes it, labels on the completion alone.

    ``byte_offsets`` are (start, end) of each completion token in the completion's UTF-8, (0, 0) in the prompt.

    Raises:
        SpecError: there is no pair.
        CompatibilityError: a sequence is longer than the student's context.
    """
    if not pairs:
        raise SpecError("expected teacher answers to train on, got none: does the teacher write the stop string?")
    context = context_length(student.model)
    rows = [_row(student, prompt, completion) for prompt, completion in pairs]
    for (prompt, _), row in zip(pairs, rows, strict=True):
        if len(row["input_ids"]) > context:
            raise CompatibilityError(
                f"{student.name} writes the answer to {prompt!r} in {len(row['input_ids'])} tokens and reads {context} "
                "at most; leave such prompts out or take a student with a longer context"
            )
    return rows


def _row(model: LoadedModel, prompt: str, completion: str) -> Row:
    encoded = encode_units(model.tokenizer, [prompt, completion], prompt_boundary=1)
    mask = [unit == 1 for unit in encoded.unit_of_token]
    sizes = [
        len(token_bytes(model.tokenizer, token)) if in_completion else 0
        for token, in_completion in zip(encoded.ids, mask, strict=True)
    ]
    return {
        "input_ids": encoded.ids,
        "labels": [token if m else IGNORE for token, m in zip(encoded.ids, mask, strict=True)],
        "completion_mask": [int(m) for m in mask],
        "byte_offsets": [(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)],
        "original_prompt_text": prompt,
        "original_completion_text": completion,
    }


def method_for(student: LoadedModel, teacher: LoadedModel, pairs: Pairs, byte_level: bool) -> Method:
    """The trainer that can compare these two models, after a check of what it would compare.

    TRL checks sizes alone: GKD accepts any two vocabularies of one size, and GOLD any two tokenizers. Tokens that are
    not shared GOLD compares by sorted probabilities, which hold how certain the teacher is and not of what, while it
    pushes shared tokens down: this doubled the student's loss on the teacher's text where few tokens are shared.

    Args:
        byte_level: whether TRL knows the bytes of the teacher's tokens.

    Raises:
        CompatibilityError: no trainer can.
    """
    rows, teacher_rows = rows_of(student, pairs), rows_of(teacher, pairs)
    if (
        student.tokenizer.get_vocab() == teacher.tokenizer.get_vocab()
        and student.model.config.vocab_size == teacher.model.config.vocab_size
        and all(a["input_ids"] == b["input_ids"] for a, b in zip(rows, teacher_rows, strict=True))
    ):
        return "gkd"
    refused = f"TRL cannot compare the logits of {student.name} and {teacher.name}"
    tokens = [(_tokens(student, a), _tokens(teacher, b)) for a, b in zip(rows, teacher_rows, strict=True)]
    same_offsets = all([at for at, _ in a] == [at for at, _ in b] for a, b in tokens)
    if not byte_level and not same_offsets:
        kind = type(teacher.tokenizer.backend_tokenizer.model).__name__
        raise CompatibilityError(
            f"{refused}: GKD needs one vocabulary, GOLD a teacher with a byte-level tokenizer (this one is {kind}) or "
            "two tokenizers that split the answers alike; distil from the teacher's text instead (sft)"
        )
    shared = sum(len(set(a) & set(b)) for a, b in tokens) / sum(len(a) for a, _ in tokens)
    if shared < SHARED:
        raise CompatibilityError(
            f"{refused}: only {shared:.0%} of the answers' tokens are the same in both, GOLD needs at least "
            f"{SHARED:.0%}; distil from the teacher's text instead (sft)"
        )
    return "gold by position" if same_offsets else "gold by bytes"


def _tokens(model: LoadedModel, row: Row) -> list[tuple[tuple[int, int], str]]:
    """The completion's tokens: the byte offsets of each, and its name in the vocabulary."""
    names = model.tokenizer.convert_ids_to_tokens(row["input_ids"])
    tokens = zip(row["byte_offsets"], names, row["completion_mask"], strict=True)
    return [(offsets, name) for offsets, name, in_completion in tokens if in_completion]


def check_on_policy(student: LoadedModel, teacher: LoadedModel, method: Method) -> None:
    """Refuse models for which TRL would score other sequences than those sampled from the student.

    Raises:
        CompatibilityError: names which of the two known causes applies.
    """
    for model in [student, teacher] if method == "gkd" else [student]:
        if not _reads_left_padding(model):
            raise CompatibilityError(
                f"{model.name} counts positions from the start of the row, and TRL scores sampled sequences with "
                "padding on the left, which shifts every position; set on_policy to 0"
            )
    prefix = special_prefix(student.tokenizer)
    if method != "gkd" and prefix:
        raise CompatibilityError(
            f"{student.name} starts a text with {student.tokenizer.decode(prefix)!r}, which GOLD hands to the teacher "
            "as text of the prompt; set on_policy to 0"
        )


@torch.no_grad()
def _reads_left_padding(model: LoadedModel) -> bool:
    """Whether masked padding on the left, without position ids, leaves the logits as they are."""
    ids_BT = torch.tensor([[1, 2, 3, 4]], device=model.device)
    padded_BT = torch.cat([torch.full_like(ids_BT, model.pad_id), ids_BT], dim=1)
    mask_BT = torch.cat([torch.zeros_like(ids_BT), torch.ones_like(ids_BT)], dim=1)
    plain_V, padded_V = (
        model.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0, -1].float()
        for ids, mask in ((ids_BT, torch.ones_like(ids_BT)), (padded_BT, mask_BT))
    )
    tolerance = 1e-3 if model.model.dtype == torch.float32 else 0.05
    return bool((plain_V - padded_V).abs().max() <= tolerance * plain_V.std())


def stop_tokens(student: LoadedModel, stop: str) -> list[int]:
    """The tokens that contain the stop string, which end a sampled sequence.

    Raises:
        CompatibilityError: no single token contains it.
    """
    tokenizer, stop_bytes = student.tokenizer, stop.encode()
    tokens = [token for token in range(len(tokenizer)) if stop_bytes in token_bytes(tokenizer, token)]
    if not tokens:
        raise CompatibilityError(
            f"no single token of {student.name} contains the stop string {stop!r}, so a sampled sequence would not "
            "end; set on_policy to 0"
        )
    return tokens
