"""Ingest a packet: rehearsal under the composite loss, from a loaded student to a candidate adapter."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict, cast

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from m2kt.models import LoadedModel, context_length
from m2kt.packet import Packet
from m2kt.settings import StudentSettings
from m2kt.student._build import build
from m2kt.student._calibrate import StudentTargets
from m2kt.student._cost import CostSummary, Pass
from m2kt.student._off_domain import OffDomainPass, sample_off_domain
from m2kt.student._prepare import TrainingInputs, prepare
from m2kt.student._tokenisation import Tokenisation
from m2kt.student._trainer import Progress, Trainer, Watch
from m2kt.student._validate import require, validate
from m2kt.student.cal import cal_model


class StartLedger(TypedDict):
    """The closed-form start of phi."""

    gain: float
    unembedding: float
    loss: float


class TrainingLedger(CostSummary):
    """Data and work of a training, under its keys on disk."""

    labelled_examples: int
    updates: int
    rehearsal_sequences: int
    rehearsal_tokens: int
    verbalised_rows: int
    trainable_parameters: int
    start: StartLedger
    prepare_seconds: float
    seconds: float
    seed: int


@dataclass
class Candidate:
    """A trained adapter before its audit."""

    model: PeftModel
    ledger: TrainingLedger
    history: list[dict[str, float]] = field(default_factory=list)
    """Losses and accuracies by update."""
    tokenisation: Tokenisation | None = None


def train(
    loaded: LoadedModel,
    packet: Packet,
    settings: StudentSettings | None = None,
    *,
    updates: int = 60,
    seed: int = 0,
    penalties: Mapping[int, float] | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Candidate:
    """Train a CAL on a frozen student by rehearsal. ``loaded.model`` is wrapped in place.

    The packet is the only source of data.

    Args:
        loaded: the student.
        settings: by default the same for every skill and student.
        updates: maximum number of optimiser steps of ``settings.rehearsal.batch`` traces each; training ends earlier
            once the rehearsal is mastered.
        seed: of all random draws.
        penalties: Penalty(c_k) by concept, from an auditor; these concepts are filtered, as are flagged ones.
        progress: called with (updates done, updates, metrics).
        watch: called after every update with (updates done, the model, its cost so far), for measurements.

    Raises:
        CompatibilityError: a check of :mod:`m2kt.student._validate` failed, such as a symbol it cannot write.
        PacketError: the packet holds no prototype samples, prompts or complete trace to train on.
        TrainingError: the loss is not finite.
    """
    settings = settings or StudentSettings()
    started = time.monotonic()
    torch.manual_seed(seed)
    inputs = prepare(loaded, packet, settings, penalties=penalties, seed=seed)
    require(validate(loaded, inputs))
    off_domain_NT = _off_domain_lines(loaded, inputs, settings, seed)  # of the student before it is wrapped
    adapted, targets = build(loaded, inputs)
    off_domain = _off_domain_pass(adapted, off_domain_NT, settings, seed)
    trainer = Trainer(adapted, targets, inputs, updates, seed=seed, off_domain=off_domain)
    trainer.cost.add(Pass.FORWARD, targets.n_tokens)
    if off_domain_NT is not None:
        trainer.cost.add(Pass.FORWARD, off_domain_NT.numel())
    prepare_seconds = time.monotonic() - started
    history = trainer.run(progress, watch)
    adapted.eval()
    ledger: TrainingLedger = {
        "labelled_examples": 0,
        "updates": len(history),
        "rehearsal_sequences": inputs.rehearsal.n_traces,
        "rehearsal_tokens": inputs.rehearsal.n_tokens,
        **trainer.cost.summary(),
        "verbalised_rows": int((inputs.rehearsal.true_output_K >= 0).sum()),
        "trainable_parameters": sum(p.numel() for p in adapted.parameters() if p.requires_grad),
        "start": _start_ledger(targets),
        "prepare_seconds": round(prepare_seconds, 2),
        "seconds": round(time.monotonic() - started, 2),
        "seed": seed,
    }
    return Candidate(adapted, ledger, history, inputs.tokenisation)


def _off_domain_lines(
    loaded: LoadedModel, inputs: TrainingInputs, settings: StudentSettings, seed: int
) -> Tensor | None:
    """Lines of the frozen student on which the reader learns to stay silent; None if no loss uses them."""
    if not settings.losses.silence or settings.reader_kind in ("executed", "none"):
        return None
    model = cast(PreTrainedModel, loaded.model)
    length = min(settings.rehearsal.quiet_tokens, context_length(model))
    return sample_off_domain(model, loaded.tokenizer, inputs.tokenisation.sequences, length, seed)


def _off_domain_pass(
    adapted: PeftModel, off_domain_NT: Tensor | None, settings: StudentSettings, seed: int
) -> OffDomainPass | None:
    if off_domain_NT is None:
        return None
    return OffDomainPass(
        cal_model(adapted),
        off_domain_NT,
        lines=settings.rehearsal.quiet_lines,
        divergence=settings.losses.retain > 0,
        seed=seed,
    )


def _start_ledger(targets: StudentTargets) -> StartLedger:
    return {
        "gain": targets.gain,
        "unembedding": targets.unembedding,
        "loss": round(targets.start_loss, 4),
    }
