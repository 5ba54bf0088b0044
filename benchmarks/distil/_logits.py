"""Distillation of next-token distributions: TRL's ``GKDTrainer`` for one vocabulary, its ``GOLDTrainer`` for two."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback
from trl.trainer.utils import pad

from benchmarks.distil._curve import Distilled, Evaluate, LearningCurve, Settings, with_lora
from benchmarks.distil._rows import (
    Pairs,
    Row,
    check_on_policy,
    method_for,
    rows_of,
    stop_tokens,
)
from benchmarks.distil._sft import arguments, output_folder
from m2kt.models import LoadedModel
from m2kt.student import IGNORE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # both trainers warn that they are experimental
    from trl.experimental.gkd import GKDConfig, GKDTrainer
    from trl.experimental.gold import GOLDConfig, GOLDTrainer
    from trl.experimental.utils import is_byte_level_tokenizer


def logits(
    student: LoadedModel,
    teacher: LoadedModel,
    pairs: Pairs,
    settings: Settings,
    *,
    stop: str,
    on_policy: float = 0.0,
    evaluate: Evaluate,
) -> Distilled:
    """Distil the teacher's next-token distributions, with the teacher loaded during training.

    Args:
        teacher: the model that answered ``pairs``.
        stop: ends an answer; sequences that the student samples end at it.
        on_policy: share of the batches that are sampled from the student; the rest are ``pairs``.

    Raises:
        CompatibilityError: as ``sft``, and where the trainers would compare these two models wrongly without a message.
    """
    rows = rows_of(student, pairs)
    method = method_for(student, teacher, pairs, bool(is_byte_level_tokenizer(teacher.tokenizer.backend_tokenizer)))
    stops: list[int] = []
    if on_policy > 0:
        check_on_policy(student, teacher, method)
        stops = stop_tokens(student, stop)
    longest = max(sum(row["completion_mask"]) for row in rows)
    model = with_lora(student, settings)
    with (
        LearningCurve(model, rows, settings, evaluate, method=method, teacher=teacher.model) as curve,
        output_folder() as folder,
        _end_tokens(student, stops),
    ):
        common = arguments(student, rows, settings, folder)
        parts: dict[str, Any] = {
            "model": model,
            "teacher_model": teacher.model,
            "train_dataset": Dataset.from_list(rows),
            "processing_class": student.tokenizer,
            "data_collator": partial(_collate, student.pad_id),
            "callbacks": [curve],
        }
        if method == "gkd":
            trainer = GKDTrainer(args=_gkd_config(common, on_policy, longest), **parts)
        else:
            by_bytes = method == "gold by bytes"
            trainer = GOLDTrainer(args=_gold_config(common, on_policy, longest, teacher, by_bytes), **parts)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return curve.distilled()


def _gkd_config(common: dict[str, Any], on_policy: float, max_new_tokens: int) -> GKDConfig:
    return GKDConfig(
        **common,
        train_sampling_strategy="group_by_length",
        lmbda=on_policy,
        beta=0.5 if on_policy else 0.0,  # on the teacher's text: forward KL, whose gradient does not vanish
        temperature=1.0,
        max_new_tokens=max_new_tokens,
    )


def _gold_config(
    common: dict[str, Any], on_policy: float, max_new_tokens: int, teacher: LoadedModel, by_bytes: bool
) -> GOLDConfig:
    """GOLD's settings, away from TRL's defaults where those kept the students of the zoo from learning.

    Forward KL on shared tokens (the gradient of the default, JSD, vanishes where the student is wrong), ``bayesian``
    (the default compares the predictions after each token, so the answer's first token is never trained), and the
    cross-entropy of the ULD paper where the text is the teacher's.
    """
    return GOLDConfig(
        **common,
        lmbda=on_policy,
        beta=0.0,
        temperature=1.0,
        top_p=1.0,
        max_completion_length=max_new_tokens,
        use_uld_loss=True,
        use_extended_uld=by_bytes,  # compares groups of tokens between shared byte offsets; else token k with token k
        uld_token_merge_strategy="bayesian",
        uld_use_hybrid_loss=True,
        uld_crossentropy_weight=0.0 if on_policy else 1.0,
        uld_skip_student_eos=False,  # the rows have none
        uld_skip_teacher_eos=teacher.tokenizer.eos_token_id is not None,  # GOLD appends it where there is one
        teacher_tokenizer_name_or_path=str(teacher.path),
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def _collate(pad_id: int, rows: Sequence[Row]) -> dict[str, Any]:
    """A batch for GKD and GOLD: sequences padded on the right, prompts on the left.

    TRL's collator pads both on the left, which shifts the positions of every model that counts them from the start of
    the row (GPT-2), without a message.
    """
    prompts = [row["input_ids"][: row["completion_mask"].index(1)] for row in rows]
    sequences = [row["input_ids"] for row in rows]
    return {
        "input_ids": _padded(sequences, pad_id),
        "attention_mask": _padded([[1] * len(ids) for ids in sequences], 0),
        "labels": _padded([row["labels"] for row in rows], IGNORE),
        "byte_offsets": _padded([row["byte_offsets"] for row in rows], 0),
        "prompts": _padded(prompts, pad_id, "left"),
        "prompt_attention_mask": _padded([[1] * len(ids) for ids in prompts], 0, "left"),
        "original_prompt_text": [row["original_prompt_text"] for row in rows],
        "original_completion_text": [row["original_completion_text"] for row in rows],
    }


def _padded(rows: Sequence[Sequence[Any]], value: int, side: str = "right") -> Tensor:
    padded: Tensor = pad([torch.tensor(row) for row in rows], padding_value=value, padding_side=side)
    return padded


@contextmanager
def _end_tokens(student: LoadedModel, tokens: list[int]) -> Iterator[None]:
    """Sets the end tokens of the student's generation config, which the trainers sample up to."""
    config = student.model.generation_config
    before = config.eos_token_id
    config.eos_token_id = tokens or before
    try:
        yield
    finally:
        config.eos_token_id = before
