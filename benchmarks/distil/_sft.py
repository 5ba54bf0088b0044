"""Supervised fine-tuning on a teacher's answers with TRL's ``SFTTrainer``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from datasets import Dataset
from huggingface_hub import constants
from transformers import PreTrainedModel, PrinterCallback, Trainer
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from benchmarks.distil._curve import Distilled, Evaluate, LearningCurve, Settings, with_lora
from benchmarks.distil._rows import Pairs, Row, rows_of
from m2kt.models import LoadedModel


class PlainLossTrainer(SFTTrainer):  # type: ignore[misc]
    """``SFTTrainer`` with the model's own loss, which is the same mean over completion tokens.

    TRL's fused head saves memory on a GPU. On a CPU it runs the head over prompts too, again in the backward pass, and
    measures entropies: a fifth more time for SmolLM2-135M. Overriding ``compute_loss`` is the way that TRL documents.
    """

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        inputs = {**inputs, "use_cache": False}
        return Trainer.compute_loss(self, model, inputs, return_outputs, num_items_in_batch)


def sft(student: LoadedModel, pairs: Pairs, settings: Settings, *, evaluate: Evaluate) -> Distilled:
    """Fine-tune a student on (prompt, the teacher's completion up to and with the stop string).

    Raises:
        CompatibilityError: a pair does not fit the student's context.
        TrainingError: the weights became infinite or NaN.
    """
    rows = rows_of(student, pairs)
    model = with_lora(student, settings)
    with LearningCurve(model, rows, settings, evaluate) as curve, output_folder() as folder:
        trainer = PlainLossTrainer(
            model=model,
            args=SFTConfig(**arguments(student, rows, settings, folder), train_sampling_strategy="group_by_length"),
            train_dataset=Dataset.from_list(rows),
            processing_class=student.tokenizer,
            data_collator=DataCollatorForLanguageModeling(pad_token_id=student.pad_id),
            callbacks=[curve],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return curve.distilled()


def arguments(student: LoadedModel, rows: Sequence[Row], settings: Settings, folder: str) -> dict[str, Any]:
    """The training arguments of all three trainers. The callback writes the learning rate before every update."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": min(settings.batch, len(rows)),
        "num_train_epochs": settings.max_epochs,
        "lr_scheduler_type": "constant",
        "seed": settings.seed,
        "max_length": None,  # rows_of checks the length; TRL would truncate without a message
        "activation_checkpointing": False,  # on by default in TRL; trades a quarter of the speed for memory
        "bf16": False,
        "use_cpu": student.device.type == "cpu",
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


@contextmanager
def output_folder() -> Iterator[str]:
    """A temporary ``output_dir``, which trainers insist on; telemetry is off meanwhile."""
    before = constants.HF_HUB_DISABLE_TELEMETRY
    constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        with tempfile.TemporaryDirectory(prefix="m2kt-distil-") as folder:
            yield folder
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = before
