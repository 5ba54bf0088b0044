"""The only module that imports TRL: its trainers, set up to be as strong and as quiet as they can be on one machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from huggingface_hub import constants
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback
from trl import SFTConfig, SFTTrainer
from trl.experimental.gkd import GKDConfig, GKDTrainer
from trl.experimental.gold import GOLDConfig, GOLDTrainer
from trl.experimental.utils import is_byte_level_tokenizer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling
from trl.trainer.utils import pad

from m2kt.models import LoadedModel

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Run:
    """What all trainers are told. The learning rate is not among it: the watch writes it before every update."""

    batch: int
    epochs: float
    seed: int
    watch: TrainerCallback


@dataclass(frozen=True)
class Teaching:
    """What the trainers that keep the teacher at hand are told besides."""

    teacher: LoadedModel
    on_policy: float
    """Share of the batches that the student writes itself."""
    max_new_tokens: int
    stop_tokens: list[int]
    """End what the student writes itself."""


class PlainLossTrainer(SFTTrainer):  # type: ignore[misc]
    """``SFTTrainer`` with the model's own loss, which is the same mean over completion tokens.

    TRL's fused head saves memory on a GPU. On a CPU it runs the head over prompts too, again in the backward pass, and
    measures entropies: a fifth more time for SmolLM2-135M. Overriding ``compute_loss`` is TRL's own way out.
    """

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        return Trainer.compute_loss(
            self, model, {**inputs, "use_cache": False}, return_outputs, num_items_in_batch
        )


def train_sft(model: Any, student: LoadedModel, rows: Rows, run: Run) -> None:
    """Supervised fine-tuning on rows of ``input_ids`` and ``labels``."""
    with _aside() as folder:
        trainer = PlainLossTrainer(
            model=model,
            args=SFTConfig(**_arguments(student, run, folder), train_sampling_strategy="group_by_length"),
            train_dataset=_dataset(rows),
            processing_class=student.tokenizer,
            data_collator=DataCollatorForLanguageModeling(pad_token_id=student.pad_id),
            callbacks=[run.watch],
        )
        _train(trainer)


def train_gkd(model: Any, student: LoadedModel, rows: Rows, run: Run, teaching: Teaching) -> None:
    """Generalised knowledge distillation: both models score the same tokens, over the whole vocabulary."""
    with _aside() as folder, _stopping(student, teaching.stop_tokens):
        trainer = GKDTrainer(
            model=model,
            teacher_model=teaching.teacher.model,
            args=GKDConfig(
                **_arguments(student, run, folder),
                lmbda=teaching.on_policy,
                beta=0.5
                if teaching.on_policy
                else 0.0,  # on the teacher's text forward KL, which does not fade
                temperature=1.0,
                max_new_tokens=teaching.max_new_tokens,
                train_sampling_strategy="group_by_length",
            ),
            train_dataset=_dataset(rows),
            processing_class=student.tokenizer,
            data_collator=partial(_collate, student.pad_id),
            callbacks=[run.watch],
        )
        _train(trainer)


def train_gold(
    model: Any, student: LoadedModel, rows: Rows, run: Run, teaching: Teaching, *, by_bytes: bool
) -> None:
    """General online logit distillation: each model scores its own tokens of one text, compared where both cut it.

    Away from TRL's defaults where those keep the student from learning (seen on the zoo): forward KL on shared tokens
    (the default JSD fades where the student is wrong), ``bayesian`` (the default compares the predictions behind each
    token, so the answer's first is never trained), and the cross-entropy of the ULD paper where the text is the
    teacher's own.

    Args:
        by_bytes: tokens are grouped where both texts are cut at the same byte; else the k-th goes with the k-th.
    """
    teacher = teaching.teacher
    with _aside() as folder, _stopping(student, teaching.stop_tokens):
        trainer = GOLDTrainer(
            model=model,
            teacher_model=teacher.model,
            args=GOLDConfig(
                **_arguments(student, run, folder),
                lmbda=teaching.on_policy,
                beta=0.0,
                temperature=1.0,
                top_p=1.0,
                max_completion_length=teaching.max_new_tokens,
                use_uld_loss=True,
                use_extended_uld=by_bytes,
                uld_token_merge_strategy="bayesian",
                uld_use_hybrid_loss=True,
                uld_crossentropy_weight=0.0 if teaching.on_policy else 1.0,
                uld_skip_student_eos=False,  # the rows have none
                uld_skip_teacher_eos=teacher.tokenizer.eos_token_id
                is not None,  # appended where there is one
                teacher_tokenizer_name_or_path=str(teacher.path),
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            train_dataset=_dataset(rows),
            processing_class=student.tokenizer,
            data_collator=partial(_collate, student.pad_id),
            callbacks=[run.watch],
        )
        _train(trainer)


def _arguments(student: LoadedModel, run: Run, folder: str) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "per_device_train_batch_size": run.batch,
        "num_train_epochs": run.epochs,
        "lr_scheduler_type": "constant",
        "seed": run.seed,
        "max_length": None,  # rows were measured; TRL would cut them without a word
        "activation_checkpointing": False,  # on by default in TRL; trades a quarter of the speed for memory
        "bf16": False,
        "use_cpu": student.device.type == "cpu",
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _dataset(rows: Rows) -> Dataset:
    return Dataset.from_list([dict(row) for row in rows])


def _collate(pad_id: int, rows: Rows) -> dict[str, Any]:
    """A batch as GKD and GOLD want it, whole sequences padded on the right and prompts on the left.

    TRL's own collator pads both on the left. That shifts the positions of every model that counts them from the start
    of the row (GPT-2), without a word.
    """
    prompts = [row["input_ids"][: row["completion_mask"].index(1)] for row in rows]
    sequences = [row["input_ids"] for row in rows]
    return {
        "input_ids": _padded(sequences, pad_id),
        "attention_mask": _padded([[1] * len(ids) for ids in sequences], 0),
        "labels": _padded([row["labels"] for row in rows], -100),
        "byte_offsets": _padded([row["byte_offsets"] for row in rows], 0),
        "prompts": _padded(prompts, pad_id, "left"),
        "prompt_attention_mask": _padded([[1] * len(ids) for ids in prompts], 0, "left"),
        "original_prompt_text": [row["original_prompt_text"] for row in rows],
        "original_completion_text": [row["original_completion_text"] for row in rows],
    }


def _padded(rows: Sequence[Sequence[Any]], value: int, side: str = "right") -> Tensor:
    padded: Tensor = pad([torch.tensor(row) for row in rows], padding_value=value, padding_side=side)
    return padded


def byte_level(loaded: LoadedModel) -> bool:
    """Whether GOLD can tell the bytes of this tokenizer's tokens."""
    return bool(is_byte_level_tokenizer(loaded.tokenizer.backend_tokenizer))


@contextmanager
def _stopping(student: LoadedModel, tokens: list[int]) -> Iterator[None]:
    """The trainers let a student write until one of the end tokens in its generation config."""
    config = student.model.generation_config
    before = config.eos_token_id
    config.eos_token_id = tokens or before
    try:
        yield
    finally:
        config.eos_token_id = before


def _train(trainer: Any) -> None:
    trainer.remove_callback(PrinterCallback)
    trainer.train()


@contextmanager
def _aside() -> Iterator[str]:
    """A folder that is gone afterwards, for what trainers insist on writing; no telemetry meanwhile."""
    before = constants.HF_HUB_DISABLE_TELEMETRY
    constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        with tempfile.TemporaryDirectory(prefix="m2kt-distil-") as folder:
            yield folder
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = before
