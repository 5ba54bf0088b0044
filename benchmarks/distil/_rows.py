"""Training sequences of a student, and whether a teacher's logits can be laid beside them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Literal

import torch

from m2kt.errors import CompatibilityError, SpecError
from m2kt.models import LoadedModel, context_length, encode_units, piece_bytes, special_prefix
from m2kt.student import IGNORE

Pairs = Sequence[tuple[str, str]]
Row = dict[str, Any]
Method = Literal["gkd", "gold by bytes", "gold by position"]

SHARED = 0.5
"""Share of the student's tokens that the teacher must write too, for GOLD to be taken."""


def rows_of(student: LoadedModel, pairs: Pairs) -> list[Row]:
    """Token sequences of (prompt, completion): the prompt's tokens as it is asked, labels on the completion alone.

    ``byte_offsets`` are (start, end) of each completion token in the completion's UTF-8, (0, 0) in the prompt.

    Raises:
        SpecError: there is no pair.
        CompatibilityError: a sequence is longer than the student's context.
    """
    if not pairs:
        raise SpecError(
            "expected teacher answers to train on, came none: does the teacher write the stop string?"
        )
    room = context_length(student.model)
    rows = [_row(student, prompt, completion) for prompt, completion in pairs]
    for (prompt, _), row in zip(pairs, rows, strict=True):
        if len(row["input_ids"]) > room:
            raise CompatibilityError(
                f"{student.name} writes the answer to {prompt!r} in {len(row['input_ids'])} tokens and reads {room} at "
                "most; leave such prompts out or take a student with a longer context"
            )
    return rows


def _row(model: LoadedModel, prompt: str, completion: str) -> Row:
    encoded = encode_units(model.tokenizer, [prompt, completion], prompt_boundary=1)
    written = [unit == 1 for unit in encoded.unit_of_token]
    sizes = [
        len(piece_bytes(model.tokenizer, t)) if w else 0 for t, w in zip(encoded.ids, written, strict=True)
    ]
    return {
        "input_ids": encoded.ids,
        "labels": [token if w else IGNORE for token, w in zip(encoded.ids, written, strict=True)],
        "completion_mask": [int(w) for w in written],
        "byte_offsets": [(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)],
        "original_prompt_text": prompt,
        "original_completion_text": completion,
    }


def method_for(student: LoadedModel, teacher: LoadedModel, pairs: Pairs, byte_level: bool) -> Method:
    """The trainer that can compare these two, after a look at what it would compare.

    TRL itself looks at sizes alone: GKD takes any two vocabularies of one size, and GOLD any two tokenizers. What
    they do not share GOLD compares by sorted probabilities, which say how sure the teacher is and not of what, and
    pushes shared tokens down meanwhile: seen to double the student's loss on the teacher's text where few are shared.

    Args:
        byte_level: whether TRL can tell the bytes of the teacher's tokens.

    Raises:
        CompatibilityError: none can.
    """
    ours, theirs = rows_of(student, pairs), rows_of(teacher, pairs)
    if (
        student.tokenizer.get_vocab() == teacher.tokenizer.get_vocab()
        and student.model.config.vocab_size == teacher.model.config.vocab_size
        and all(a["input_ids"] == b["input_ids"] for a, b in zip(ours, theirs, strict=True))
    ):
        return "gkd"
    names = f"TRL cannot compare the logits of {student.name} and {teacher.name}"
    cuts = [(_tokens(student, a), _tokens(teacher, b)) for a, b in zip(ours, theirs, strict=True)]
    alike = all([at for at, _ in a] == [at for at, _ in b] for a, b in cuts)
    if not byte_level and not alike:
        kind = type(teacher.tokenizer.backend_tokenizer.model).__name__
        raise CompatibilityError(
            f"{names}: GKD needs one vocabulary, GOLD a teacher with a byte-level tokenizer (this one is {kind}) or "
            "two that cut the answers alike; distil from the teacher's text instead (sft)"
        )
    shared = sum(len(set(a) & set(b)) for a, b in cuts) / sum(len(a) for a, _ in cuts)
    if shared < SHARED:
        raise CompatibilityError(
            f"{names}: only {shared:.0%} of the answers' tokens are the same in both, at least {SHARED:.0%} are needed "
            "for GOLD to say which token is right; distil from the teacher's text instead (sft)"
        )
    return "gold by position" if alike else "gold by bytes"


def _tokens(loaded: LoadedModel, row: Row) -> list[tuple[tuple[int, int], str]]:
    """The completion's tokens: where each stands in the text, and its name in the vocabulary."""
    names = loaded.tokenizer.convert_ids_to_tokens(row["input_ids"])
    placed = zip(row["byte_offsets"], names, row["completion_mask"], strict=True)
    return [(at, name) for at, name, written in placed if written]


def check_on_policy(student: LoadedModel, teacher: LoadedModel, method: Method) -> None:
    """Refuses the pairs of models for which TRL would score other sequences than those the student wrote.

    Raises:
        CompatibilityError: says which of the two known ways applies.
    """
    scored = [student, teacher] if method == "gkd" else [student]
    for model in scored:
        if not _reads_left_padding(model):
            raise CompatibilityError(
                f"{model.name} counts positions from the start of the row, and TRL scores what a student wrote with "
                "padding on the left: every position would be shifted; set on_policy to 0"
            )
    prefix = special_prefix(student.tokenizer)
    if method != "gkd" and prefix:
        raise CompatibilityError(
            f"{student.name} starts a text with {student.tokenizer.decode(prefix)!r}, which GOLD hands to the teacher "
            "as text of the prompt; set on_policy to 0"
        )


@torch.no_grad()
def _reads_left_padding(loaded: LoadedModel) -> bool:
    """Whether a forward pass says the same when masked padding stands in front and no positions are given."""
    ids = torch.tensor([[1, 2, 3, 4]], device=loaded.device)
    padded = torch.cat([torch.full_like(ids, loaded.pad_id), ids], dim=1)
    mask = torch.cat([torch.zeros_like(ids), torch.ones_like(ids)], dim=1)
    plain = (
        loaded.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        .logits[0, -1]
        .float()
    )
    behind = loaded.model(input_ids=padded, attention_mask=mask, use_cache=False).logits[0, -1].float()
    slack = 1e-3 if loaded.model.dtype == torch.float32 else 0.05
    return bool((plain - behind).abs().max() <= slack * plain.std())


def stop_tokens(student: LoadedModel, stop: str) -> list[int]:
    """The tokens that write the stop string, which end what the student writes itself.

    Raises:
        CompatibilityError: no single token does.
    """
    tokenizer, wanted = student.tokenizer, stop.encode()
    found = [token for token in range(len(tokenizer)) if wanted in piece_bytes(tokenizer, token)]
    if not found:
        raise CompatibilityError(
            f"no single token of {student.name} writes the stop string {stop!r}, so what it writes itself cannot be "
            "ended; set on_policy to 0"
        )
    return found
